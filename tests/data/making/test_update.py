"""An update adds shards and ledgers for new bytes; nothing that was there changes, and nothing is dropped silently."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.data.imaging.decode import decode
from genmodel.data.imaging.resize import resize
from genmodel.data.making.update import Update
from genmodel.data.making.update import update as add
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import BlockError, ConfigError, SourceError

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, Files], str]
Tree = Callable[[Path], Files]


@pytest.fixture
def old(files: Files) -> Files:
    """Some 20 of the images, without class cat, and two that are none."""
    return {name: content for i, (name, content) in enumerate(files.items()) if name[:3] != "cat" and i % 3 != 2}


@pytest.fixture
def block(make: Make, old: Files, packed: Pack, tmp_path: Path, small_shards: None) -> Block:
    return make(packed("tar.gz", old), tmp_path / "data")


def update(source: str, out: Path, *options: Any, **more: Any) -> Update:
    """An update that may bring new classes."""
    return add(source, out, *options, layout=Layout(allow_new_classes=True), **more)


def unchanged(before: Files, after: Files) -> bool:
    return all(after[name] == content for name, content in before.items() if name != "block.json")


def test_new_images_come_behind_the_old_ones(block: Block, files: Files, old: Files, packed: Pack, tree: Tree) -> None:
    before = tree(block.path)
    new = {name: content for name, content in files.items() if name not in old}
    made = update(packed("tar.gz", new), block.path, 2, 0.5)
    after = tree(block.path)
    assert unchanged(before, after) and made.block.verify(watch=False) == []
    assert made.added == len(made.block) - len(block) and made.rejected == 2  # cat/cut.png, ape/zero.gif
    assert made.added + made.rejected == len(new) == len(made.findings.new)
    assert made.findings.absent == len(block) and made.findings.known == made.findings.elsewhere == 0
    assert {name: len(after[name]) for name in after.keys() - before.keys() | {"block.json"}} == made.new_files
    assert made.block.classes == ["ape", "bee", "cat"]  # cat is new and comes last
    ledger = made.block.ledger()
    assert ledger["name"][: len(block)] == block.ledger()["name"]
    everything = made.block.gather(16, np.arange(len(made.block)))
    for name, image in zip(ledger["name"], everything, strict=True):
        np.testing.assert_array_equal(image, resize(decode(files[name])[0], 16))
    facts = made.block.facts["generations"]
    assert [fact["images"] for fact in facts] == [len(block), made.added] and facts[1]["rejected"] == 2


def test_new_classes_get_the_labels_behind_the_old_ones(block: Block, images: Files, packed: Pack) -> None:
    content = [images[name] for name in images if name.startswith("cat")]
    new = {"aaa/1.jpg": content[0], "zzz/2.jpg": content[1], "bee/3.jpg": content[2], "10/4.jpg": content[3]}
    made = update(packed("zip", new), block.path)
    assert made.block.classes == ["ape", "bee", "10", "aaa", "zzz"]
    assert made.block.labels[-4:].tolist() == [2, 3, 1, 4]  # canonical order: 10, aaa, bee, zzz


def test_a_second_update_changes_nothing(block: Block, files: Files, packed: Pack, tree: Tree) -> None:
    source = packed("tar", files)
    first = update(source, block.path, 2, 0.5)
    assert first.findings.absent == 0 and first.findings.known > 20
    before = tree(block.path)
    second = update(source, block.path, 2, 0.5)
    assert tree(block.path) == before and not block.path.with_name("data.partial").exists()
    assert (second.added, second.rejected, second.findings.known) == (0, 0, len(files))
    assert second.lines()[-1] == "nothing to push"


@pytest.mark.slow
def test_any_way_gives_the_same_bytes(
    make: Make,
    files: Files,
    old: Files,
    packed: Pack,
    tree: Tree,
    tmp_path: Path,
    small_shards: None,
) -> None:
    trees = []
    for workers, kind in ((1, "tar"), (2, "shuffled tar.gz"), (3, "folder")):
        block = make(packed("tar", old), tmp_path / str(workers))
        update(packed(kind, files), block.path, workers, 0.5)
        trees.append(tree(block.path))
    assert trees[0] == trees[1] == trees[2]


def test_refused_members_do_not_come_again(block: Block, images: Files, packed: Pack, tmp_path: Path) -> None:
    """Links have no bytes whose digest could be known."""
    folder, before = Path(packed("folder", images)), block.facts["rejected"]
    (folder / "cat/link.jpg").symlink_to("/etc/passwd")
    assert update(str(folder), block.path, 1, 0.5).rejected == 1
    second = update(str(folder), block.path, 1, 0.5)
    assert second.findings.new == [] and second.block.facts["rejected"] == before + 1


def test_what_moved_or_changed_is_said(block: Block, old: Files, images: Files, packed: Pack) -> None:
    good = [name for name in old if name in images]
    source = dict(old)
    source["cat/moved.jpg"] = source.pop(good[0])
    source[good[1]] = images["cat/002.jpeg"]
    lines = "\n".join(update(packed("tar", source), block.path).lines())
    assert "1 new image, 0 rejected" in lines
    assert "in the block under another class, left there: 1 image" in lines
    assert "new bytes under a name that the block has, both kept: 1 image" in lines
    assert "in the block but not in the source, kept: 1 image" in lines
    assert "to push: 5 new files, " in lines  # two shards, two ledgers, block.json
    assert "16/shard-00004.npy  896" in lines


@pytest.mark.slow
def test_killed_at_any_write_the_old_block_or_the_new_is_whole(
    make: Make,
    files: Files,
    old: Files,
    packed: Pack,
    tree: Tree,
    tmp_path: Path,
    small_shards: None,
    killed_at: Callable[..., int],
) -> None:
    sources = packed("tar", old), packed("tar", files)
    before = tree(make(sources[0], tmp_path / "expected").path)
    expected = tree(update(sources[1], tmp_path / "expected", 2, 0.5).block.path)
    kills = 0
    for write in [*range(1, 400, 7)]:
        out = tmp_path / str(write)
        make(sources[0], out)
        code = killed_at(write, write % 2 == 0, lambda out=out: update(sources[1], out, 2, 0.5))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        found = tree(out)
        assert unchanged(before, found) and found["block.json"] in (before["block.json"], expected["block.json"])
        Block.open(out).gather(16, np.arange(10))
        update(sources[1], out, 2, 0.5)
        assert tree(out) == expected and not out.with_name(out.name + ".partial").exists()
    assert kills >= 8
    assert code == 0, "the writes went on behind the last kill"


def test_errors_leave_the_block_alone(block: Block, packed: Pack, tree: Tree, tmp_path: Path) -> None:
    before = tree(block.path)
    with pytest.raises(SourceError, match="2 of 2 images cannot be used"):
        update(packed("tar", {"ape/x.jpg": b"?", "ape/y.jpg": b"!"}), block.path)
    with pytest.raises(BlockError, match="there is no block at"):
        update(packed("tar", {"ape/x.jpg": b"?"}), tmp_path / "none")
    with pytest.raises(ConfigError, match="--allow-rejects"):
        update(packed("tar", {"ape/x.jpg": b"?"}), block.path, max_reject_share=2)
    assert tree(block.path) == before


def test_the_command(block: Block, images: Files, packed: Pack, capsys: pytest.CaptureFixture[str]) -> None:
    source = packed("tar", images)
    words = ["prepare", source, "--out", str(block.path), "--update", "--workers", "1"]
    with pytest.raises(SystemExit):
        main(words)
    assert "cat (cat/002.jpeg): use --allow-new-classes" in capsys.readouterr().err
    assert main([*words, "--allow-new-classes"]) == 0
    said = capsys.readouterr().out
    assert "new images, 0 rejected" in said and "to push" in said and "ledger-001.parquet" in said
    with pytest.raises(SystemExit):
        main(["prepare", source, "--out", str(block.path), "--update", "--sizes", "32"])
    assert "--update keeps the block's sizes" in capsys.readouterr().err


@pytest.mark.slow
def test_tiny_imagenet_b_added_to_a(shared: Callable[[str], str], make: Make, tmp_path: Path) -> None:
    from genmodel.files.durable import digest_file

    options: dict[str, Any] = {"sizes": [64], "max_reject_share": 0}
    block = make(shared("tiny-imagenet-a.tar.gz"), tmp_path / "data", **options)
    before = {name: digest_file(block.path / name) for name in block.facts["files"]}
    made = update(shared("tiny-imagenet-b.tar.gz"), block.path, 2, 0)
    assert before == {name: digest_file(block.path / name) for name in before}
    assert (len(block), made.added, len(made.block.classes)) == (25_000, 24_999, 100)
    assert made.findings.known == made.findings.elsewhere == 1  # b has an image of a, under another class
    pixels = sum(size for name, size in made.new_files.items() if name.startswith("64/"))
    assert pixels == 4 * 128 + 24_999 * 64 * 64 * 3
    assert made.block.verify(watch=False) == []
    print("\n".join(made.lines()))
