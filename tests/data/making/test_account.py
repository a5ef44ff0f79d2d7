"""Every file of a source is accounted for, before a preparation and after it; an update asks for new classes."""

import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genmodel.data.block import UNLABELLED, Block, write_index
from genmodel.data.census import count
from genmodel.data.making.account import account, overview
from genmodel.data.making.update import update
from genmodel.data.reading.loader import Loader
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.telling import in_a_line
from genmodel.errors import ConfigError, SourceError

Make = Callable[..., Block]
Pack = Callable[[str, dict[str, bytes]], str]


def png(seed: int) -> bytes:
    handle = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)).save(handle, "PNG")
    return handle.getvalue()


def pngs(*names: str) -> dict[str, bytes]:
    return {name: png(seed) for seed, name in enumerate(names)}


SPLITS = [f"{split}/{name}/{i}.png" for split in ("train", "val", "test") for name in ("a", "b") for i in range(3)]
ODD = {"train/a/bad.png": b"no image", "train/a/odd.xyz": b"?", "train/a/.DS_Store": b"x", "notes.txt": b"hi"}


@pytest.mark.parametrize("packing", ["folder", "tar", "tar.gz", "zip"])
def test_the_three_add_up_in_the_lines_the_census_and_the_block(
    packing: str, packed: Pack, make: Make, tmp_path: Path
) -> None:
    block = make(packed(packing, pngs(*SPLITS) | ODD), tmp_path / "data")
    facts = block.facts["generations"][0]
    assert (facts["found"], facts["images"], facts["rejected"], facts["known"]) == (22, 12, 1, 0)
    assert facts["ignored"] == {
        "hidden or system file": {"files": 1, "example": "train/a/.DS_Store"},
        "not an image (.txt)": {"files": 1, "example": "notes.txt"},
        "not an image (.xyz)": {"files": 1, "example": "train/a/odd.xyz"},
        "split test": {"files": 6, "example": "test/a/0.png"},
    }
    assert account(block) == [
        "split val is the val split; the val fraction is not used",
        "22 files: 12 used, 1 rejected (1 not in a format that can be read (JPEG, PNG, PPM, BMP, GIF, TIFF, "
        "WEBP, AVIF, JPEG2000), such as train/a/bad.png), 9 ignored (6 split test, such as test/a/0.png; "
        "1 hidden or system file, such as train/a/.DS_Store; "
        "1 not an image (.txt), such as notes.txt; 1 not an image (.xyz), such as train/a/odd.xyz)",
    ]
    lines = {line.what: line.images for line in count(block)}
    ignored = sum(images for what, images in lines.items() if what.startswith("ignored: "))
    assert lines["files found"] == lines["accepted"] + lines["rejected"] + ignored == 22
    assert np.array_equal(block.splits, [0, 0, 0, 1, 1, 1] * 2)
    assert not block.verify(watch=False)


def test_a_given_val_split_is_the_val_split_whatever_the_fraction(packed: Pack, make: Make, tmp_path: Path) -> None:
    block = make(packed("folder", pngs(*SPLITS)), tmp_path / "data", val_fraction=0.9)
    names = np.array(block.ledger(["name"])["name"])
    assert all(name.startswith("val/") for name in names[block.rows("val")]) and len(block.rows("val")) == 6
    drawn = make(packed("folder", pngs(*SPLITS)), tmp_path / "drawn", layout=Layout(split="train"), val_fraction=0.9)
    assert len(drawn) == 6 and len(drawn.rows("val")) > 3


def test_a_class_of_rejects_alone_is_no_class(packed: Pack, make: Make, tmp_path: Path) -> None:
    block = make(packed("folder", pngs("a/1.png", "b/2.png") | {"c/3.png": b"no image"}), tmp_path / "data")
    assert block.classes == ["a", "b"] and block.labels.tolist() == [0, 1]


def test_images_without_a_label(packed: Pack, make: Make, tmp_path: Path) -> None:
    names = [f"0000{i // 4}/img{i:08d}.png" for i in range(8)]
    told = json.dumps({"labels": [[name, [-1, 0, 5, 5][i % 4]] for i, name in enumerate(names)]}).encode()
    block = make(packed("zip", pngs(*names) | {"dataset.json": told}), tmp_path / "data", val_fraction=0)
    assert block.classes == ["0", "5"] and block.labels.tolist() == [UNLABELLED] * 2 + [0] * 2 + [1] * 4
    assert "images without a label (-1): 2" in account(block) and not block.verify(watch=False)
    loader = Loader(block, 8, "train", seed=0)
    assert loader.class_counts() == [2, 4]
    assert sorted(loader.batch(0, 8)[1].tolist()) == block.labels.tolist()
    assert sorted(Loader(block, 8, "train", seed=0, labelled=1).batch(0, 8)[1].tolist()) == [-1] * 6 + [0, 1]


def test_attributes_are_a_column_only_where_there_are_any(packed: Pack, make: Make, tmp_path: Path) -> None:
    files = pngs("a/1.png", "b/2.png")
    assert "attributes" not in make(packed("folder", files), tmp_path / "plain").ledger()
    table = b"file_name,hair,text\na/1.png,red,\nb/2.png,,a dog"
    block = make(packed("folder", files | {"metadata.csv": table}), tmp_path / "data")
    assert block.ledger(["attributes"]) == {"attributes": ['{"hair": "red"}', '{"text": "a dog"}']}
    assert not block.verify(watch=False)


def test_an_update_with_attributes_joins_a_block_without(packed: Pack, make: Make, tmp_path: Path) -> None:
    block = make(packed("folder", pngs("a/1.png", "b/2.png")), tmp_path / "data")
    more = {"a/3.png": png(7), "b/4.png": png(8), "metadata.csv": b"file_name,hair\na/3.png,red\nb/4.png,red"}
    made = update(packed("folder", more), block.path)
    assert made.block.ledger()["attributes"] == ["", "", *['{"hair": "red"}'] * 2]
    assert not made.block.verify(watch=False)


BASE = "cat/persian/1.png", "cat/siamese/2.png", "dog/pug/3.png"


def test_an_update_reads_with_the_blocks_own_way_and_asks_for_new_classes(
    packed: Pack, make: Make, tmp_path: Path
) -> None:
    block = make(packed("folder", pngs(*BASE)), tmp_path / "data")
    more = {"cat/persian/4.png": png(4), "cat/tabby/5.png": png(5)}
    made = update(packed("folder", more), block.path)
    assert made.block.classes == ["cat", "dog"] and made.added == 2 and not made.new_classes
    before = (block.path / "block.json").read_bytes()
    with pytest.raises(SourceError, match="is not in a class folder"):
        update(packed("folder", {"6.png": png(6)}), block.path)
    owls = packed("folder", {"owl/barn/6.png": png(6), "owl/snowy/7.png": png(7)})
    with pytest.raises(
        SourceError, match=r"classes that the block does not have: owl \(owl/barn/6.png\): use --allow-new"
    ):
        update(owls, block.path)
    assert (block.path / "block.json").read_bytes() == before
    made = update(owls, block.path, layout=Layout(allow_new_classes=True))
    assert made.new_classes == ["owl"] and "new classes: owl" in made.lines()
    assert made.block.classes == ["cat", "dog", "owl"]
    assert any(line.startswith("2 files: 2 used, 0 rejected") for line in made.lines())


def test_what_an_update_knows_already_is_accounted_for(packed: Pack, make: Make, tmp_path: Path) -> None:
    block = make(packed("folder", pngs(*BASE)), tmp_path / "data")
    more = pngs(*BASE) | {"cat/persian/4.png": png(4), "README": b"hi"}
    made = update(packed("folder", more), block.path)
    assert account(made.block) == [
        "5 files: 1 used, 3 already in the block, 0 rejected, 1 ignored (1 not an image (no extension), such as README)"
    ]


def test_one_image_is_told_in_the_singular(packed: Pack, make: Make, tmp_path: Path) -> None:
    source = packed("folder", pngs("cat/1.png"))
    assert overview(str(source), Layout())[0] == f"{source}: 1 image in 1 class; nothing was written"
    block = make(source, tmp_path / "data")
    assert in_a_line(block).startswith("1 image in 1 class at ")
    assert account(block) == ["1 file: 1 used, 0 rejected, 0 ignored"]


def test_a_block_of_format_2_is_read_and_grows(packed: Pack, make: Make, tmp_path: Path) -> None:
    block = make(packed("folder", pngs(*BASE)), tmp_path / "data")
    facts = block.facts | {"format": 2}
    kept = "source", "versions", "images", "rejected"
    facts["generations"] = [{name: facts["generations"][0][name] for name in kept} | {"ignored": 4}]
    write_index(block.path, facts)
    old = Block.open(block.path)
    assert account(old) == ["3 images used, 0 rejected, 4 files ignored"]
    assert not any(line.what.startswith("ignored") or line.what == "files found" for line in count(old))
    made = update(packed("folder", {"cat/persian/4.png": png(4)}), block.path).block
    assert made.facts["format"] == 2 and made.classes == ["cat", "dog"] and not made.verify(watch=False)
    assert account(made) == ["1 file: 1 used, 0 rejected, 0 ignored"]
    assert {line.what: line.images for line in count(made)}["files found"] == 1


def test_a_new_block_has_no_old_classes(packed: Pack, make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--allow-new-classes goes with --update"):
        make(packed("folder", pngs(*BASE)), tmp_path / "data", layout=Layout(allow_new_classes=True))


@pytest.mark.parametrize("packing", ["folder", "tar.gz", "zip"])
def test_the_overview_says_what_would_be_done_and_does_nothing(
    packing: str, packed: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = packed(packing, pngs(*SPLITS) | ODD)
    lines = overview(source, Layout())
    assert lines == [
        f"{source}: 13 images in 2 classes; nothing was written",
        "  a  7",
        "  b  6",
        "split val is held out: 6 of these images; the val fraction is not used",
        "for example:",
        *(f"  a: train/a/{name}.png" for name in (0, 1, 2, "bad")),
        *(f"  a: val/a/{i}.png" for i in range(3)),
        *(f"  b: train/b/{i}.png" for i in range(3)),
        "22 files: 13 used, 0 rejected, 9 ignored (6 split test, such as test/a/0.png; 1 hidden or system file, "
        "such as "
        "train/a/.DS_Store; 1 not an image (.txt), such as notes.txt; 1 not an image (.xyz), such as train/a/odd.xyz)",
    ]
    said = capsys.readouterr().err
    assert ("is compressed without an index: all of it is unpacked" in said) == (packing == "tar.gz")


def test_the_overview_of_an_update_names_new_classes(packed: Pack, make: Make, tmp_path: Path) -> None:
    block = make(packed("folder", pngs(*BASE)), tmp_path / "data")
    lines = overview(packed("folder", {"owl/barn/6.png": png(6)}), Layout(), None, block)
    assert "new classes: owl (--allow-new-classes adds them)" in lines


@pytest.mark.slow
@pytest.mark.parametrize("compressed", [False, True])
def test_a_list_of_many_takes_seconds(compressed: bool, tmp_path: Path) -> None:
    """A tar's headers and a zip's directory are read, and nothing of 400 MB."""
    blob = os.urandom(1 << 20)
    if compressed:
        with zipfile.ZipFile(tmp_path / "s", "w") as archive:
            for i in range(400):
                archive.writestr(f"{i % 7}/{i}.jpg", blob)
    else:
        with tarfile.open(tmp_path / "s", "w") as tar:
            for i in range(400):
                info = tarfile.TarInfo(f"{i % 7}/{i}.jpg")
                info.size = len(blob)
                tar.addfile(info, io.BytesIO(blob))
    read = bytes_read(f"overview({str(tmp_path / 's')!r}, Layout())")
    assert read < 40 << 20, f"{read:,} bytes"


def bytes_read(call: str) -> int:
    """Bytes that a call reads from files, in a process of its own, beside what its imports read."""
    script = (
        "from genmodel.data.making.account import overview\nfrom genmodel.data.sources.meaning.layout import Layout\n"
        "def read(): return int(open('/proc/self/io').read().split()[1])\n"
        f"before = read(); lines = {call}; assert '400 images' in lines[0], lines; print(read() - before)"
    )
    return int(subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
def test_any_locale_gives_the_same_block_and_shows_any_name(packed: Pack, tmp_path: Path) -> None:
    """Latin-1 where the machine has that locale; a terminal of Latin-1 in any case."""
    source = packed("folder", pngs("\xe7/1.png", "\u65e5/2.png"))
    indexes = set()
    for locale in ("C", "C.UTF-8", "en_US.ISO-8859-1"):
        environment = os.environ | {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1:strict"}
        environment |= {"PYTHONCOERCECLOCALE": "0"}
        for words in (["--out", str(tmp_path / locale), "--sizes", "8", "--workers", "1"], ["--list"]):
            command = [sys.executable, "-m", "genmodel.cli", "prepare", source, *words]
            done = subprocess.run(command, env=environment, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr.decode("latin-1")
        assert b"\xe7  1" in done.stdout and b"\\u65e5  1" in done.stdout
        indexes.add((tmp_path / locale / "block.json").read_bytes())
    assert len(indexes) == 1 and Block.open(tmp_path / "C").classes == ["\xe7", "\u65e5"]
