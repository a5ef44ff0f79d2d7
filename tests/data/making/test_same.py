"""The same image twice: by its bytes or by what is made of it; counted, on one side of the split, or left out."""

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.data.making.recipe import Recipe
from genmodel.data.making.update import update

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, Files], str]
Tree = Callable[[Path], Files]
Picture = Callable[..., Image.Image]
Encode = Callable[..., bytes]

DROP = Recipe(duplicates="drop")


@pytest.fixture
def singles(picture: Picture, encode: Encode) -> Files:
    """40 images of two classes, all of them different."""
    return {f"{'ab'[i % 2]}/{i:02d}.png": encode(picture(i, 40, 30), "PNG") for i in range(40)}


@pytest.fixture
def doubles(picture: Picture, encode: Encode) -> Files:
    """Each of 20 of them again: by other bytes, some under the other class."""
    forms = ["BMP", "PPM", "TIFF"]
    return {f"b/{i:02d}.{forms[i % 3].lower()}": encode(picture(i, 40, 30), forms[i % 3]) for i in range(20)}


def sides(block: Block) -> dict[str, set[int]]:
    """The splits in which what was made of an image is."""
    found: dict[str, set[int]] = {}
    for pixels, split in zip(block.ledger()["pixels"], block.splits.tolist(), strict=True):
        found.setdefault(pixels, set()).add(split)
    return found


@pytest.mark.slow
def test_they_are_on_one_side_of_the_split(
    make: Make, singles: Files, doubles: Files, packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    alone = make(packed("tar", singles), tmp_path / "alone", val_fraction=0.5)
    block = make(packed("tar", singles | doubles), tmp_path / "data", val_fraction=0.5)
    assert len(block) == 60 and block.facts["generations"][0]["same"] == 20
    assert len(sides(block)) == 40 and all(len(splits) == 1 for splits in sides(block).values())
    by_bytes = [int(int(digest[:8], 16) < 2**31) for digest in block.ledger()["sha256"]]
    assert by_bytes != block.splits.tolist(), "the bytes alone would have parted none"
    splits = dict(zip(alone.ledger()["name"], alone.splits.tolist(), strict=True))
    found = dict(zip(block.ledger()["name"], block.splits.tolist(), strict=True))
    assert {name: found[name] for name in splits if int(name[2:4]) >= 20} == {
        name: split for name, split in splits.items() if int(name[2:4]) >= 20
    }, "what is there once is where its bytes put it"
    for kind, workers in (("shuffled tar.gz", 1), ("folder", 3)):
        again = make(packed(kind, singles | doubles), tmp_path / kind, val_fraction=0.5, workers=workers)
        assert tree(again.path) == tree(block.path)


@pytest.mark.slow
def test_an_update_puts_them_where_the_block_has_them(
    make: Make, singles: Files, doubles: Files, packed: Pack, tmp_path: Path
) -> None:
    block = make(packed("tar", singles), tmp_path / "data", val_fraction=0.5)
    made = update(packed("tar", doubles), block.path)
    assert made.added == 20 and made.block.facts["generations"][1]["same"] == 20
    assert all(len(splits) == 1 for splits in sides(made.block).values())
    assert made.block.splits[:40].tolist() == block.splits.tolist()


def test_what_a_source_has_in_both_of_its_splits_is_held_out(
    make: Make, singles: Files, packed: Pack, tmp_path: Path
) -> None:
    splits = {f"train/{name}": content for name, content in singles.items()}
    twice = [name for name in singles if name < "a/10"]
    splits |= {f"val/{name}": singles[name] for name in twice}
    block = make(packed("tar", splits), tmp_path / "data", val_fraction=0.5)
    assert len(block) == 40 + len(twice) and all(len(found) == 1 for found in sides(block).values())
    held = {name.rpartition("/")[2] for name, split in zip(block.ledger()["name"], block.splits, strict=True) if split}
    assert held == {name.rpartition("/")[2] for name in twice}


@pytest.mark.slow
def test_all_but_the_first_are_left_out(
    make: Make, singles: Files, doubles: Files, packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    block = make(packed("tar", singles | doubles), tmp_path / "data", recipe=DROP, max_reject_share=0)
    assert len(block) == 40 and block.verify(watch=False) == []
    assert sorted(set(block.ledger()["pixels"])) == sorted(block.ledger()["pixels"])
    rejects = block.rejects()
    reasons = dict(zip(rejects["name"], rejects["reason"], strict=True))
    assert reasons["b/00.bmp"] == "the same image as a/00.png, under another class"
    assert reasons["b/01.ppm"] == "the same image as b/01.png" and "b/01.png" not in reasons  # canonical order
    assert len(reasons) == 20 == block.facts["generations"][0]["same"]
    plain = make(packed("tar", singles), tmp_path / "alone", recipe=DROP)
    np.testing.assert_array_equal(
        sorted(image.tobytes() for image in plain.gather(16, np.arange(40))),
        sorted(image.tobytes() for image in block.gather(16, np.arange(40))),
    )
    for kind, workers in (("shuffled tar.gz", 1), ("folder", 3)):
        again = make(packed(kind, singles | doubles), tmp_path / kind, recipe=DROP, workers=workers)
        assert tree(again.path) == tree(block.path)


@pytest.mark.slow
def test_an_update_leaves_out_what_the_block_has(
    make: Make, singles: Files, doubles: Files, packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    block = make(packed("tar", singles), tmp_path / "data", recipe=DROP)
    made = update(packed("tar", doubles), block.path, max_reject_share=0)
    assert (made.added, len(made.block), made.block.facts["generations"][1]["same"]) == (0, 40, 20)
    assert made.block.rejects()["reason"][0] == "the same image as a/00.png, under another class"
    assert made.block.verify(watch=False) == []
    before = tree(block.path)
    assert update(packed("tar", doubles), block.path).new_files == {} and tree(block.path) == before


def test_equal_bytes_are_the_same_image(make: Make, singles: Files, packed: Pack, tmp_path: Path) -> None:
    twice = singles | {"b/again.png": singles["a/00.png"]}
    kept = make(packed("tar", twice), tmp_path / "data")
    assert len(kept) == 41 and kept.facts["generations"][0]["same"] == 1
    assert len(make(packed("tar", twice), tmp_path / "other", recipe=DROP)) == 40


@pytest.mark.slow
def test_killed_at_any_write_it_is_the_same(
    make: Make,
    singles: Files,
    doubles: Files,
    packed: Pack,
    tree: Tree,
    tmp_path: Path,
    killed_at: Callable[..., int],
    small_shards: None,
) -> None:
    source = packed("tar", singles | doubles)
    expected = tree(make(source, tmp_path / "expected", recipe=DROP).path)
    kills = 0
    for write in range(1, 600, 13):
        out = tmp_path / str(write)
        code = killed_at(write, write % 2 == 0, lambda out=out: make(source, out, recipe=DROP))
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        assert tree(make(source, out, recipe=DROP).path) == expected
    assert kills >= 8 and code == 0


@pytest.mark.slow
def test_the_commands_say_how_many(
    singles: Files, doubles: Files, packed: Pack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = packed("tar", singles | doubles), str(tmp_path / "data")
    assert main(["prepare", source, "--out", out, "--sizes", "16"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.endswith("60 images in 2 classes at 16 px, RGB; 20 identical to another, kept, all in one split")
    main(["census", out, "--csv"])
    assert "pixels that occur more than once,40," in capsys.readouterr().out
    assert main(["prepare", source, "--out", out, "--sizes", "16", "--duplicates", "drop"]) == 0
    said = capsys.readouterr().out.splitlines()[0]
    assert said.endswith("40 images in 2 classes at 16 px, RGB; 20 identical to another, dropped")
    main(["census", out, "--csv"])
    said = capsys.readouterr().out
    assert "rejected: the same image as another,10," in said
    assert "rejected: the same image as another, under another class" in said
