"""`genmodel prepare` and `genmodel verify` on toy images; every mistake is one line, and harms nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from genmodel.cli import main
from genmodel.data.block import Block

Say = pytest.CaptureFixture[str]
Mistake = Callable[..., str]


def genmodel(*words: object) -> int:
    return main([str(word) for word in words])


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_prepare_then_verify(raw: Path, place: Path, capsys: Say) -> None:
    assert genmodel("prepare", raw, "--out", "data", "--sizes", "8,16", "--workers", 2) == 0
    assert capsys.readouterr().out == (
        "data: 60 images in 2 classes at 8, 16 px, RGB\n  circle  30\n  square  30\n"
        "60 files: 60 used, 0 rejected, 0 ignored\ncontact sheet: data.contact.png\n"
    )
    assert genmodel("verify", "data") == 0
    assert "60 images, every file is intact" in capsys.readouterr().out
    assert [path.name for path in place.iterdir() if "partial" in path.name or "old" in path.name] == []


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda place: None, ["no source at source"]),
        (lambda place: (place / "source").mkdir(), ["source holds no images", "JPEG"]),
        (lambda place: (place / "source").write_bytes(b""), ["source is empty"]),
        (lambda place: _write(place / "source/a/notes.txt", b"hi"), ["source holds no images", "1 other file"]),
        (lambda place: _write(place / "source", b"just text"), ["source is text", "the archive"]),
        (lambda place: _write(place / "source/a/x.png", b"no image"), ["1 of 1 image cannot be used", "a/x.png"]),
    ],
)
def test_sources_that_are_none(make: Any, expected: list[str], block: Block, place: Path, mistake: Mistake) -> None:
    shutil.copytree(block.path, place / "data")
    before = tree(place / "data")
    make(place)
    line = mistake("prepare", "source", "--out", "data", "--sizes", "16", "--workers", 1)
    assert all(part in line for part in expected), line
    assert tree(place / "data") == before


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_one_unreadable_image_is_listed_and_the_rest_goes_on(raw: Path, place: Path, capsys: Say) -> None:
    for number in range(60):  # 1 of 121 is less than 1%
        shutil.copy(raw / "circle/000.png", raw / f"circle/more-{number}.png")
    (raw / "square/torn.png").write_bytes((raw / "square/000.png").read_bytes()[:60])
    assert genmodel("prepare", raw, "--sizes", "8", "--workers", 1) == 0
    rejects = pd.read_parquet(place / "data/rejects-000.parquet")
    assert rejects["name"].tolist() == ["square/torn.png"] and rejects["class"].tolist() == ["square"]
    assert rejects["reason"].str.len().min() > 5
    assert len(Block.open(place / "data")) == 120
    assert genmodel("verify") == 0


def test_more_than_a_percent_is_an_error_unless_allowed(raw: Path, block: Block, place: Path, mistake: Mistake) -> None:
    shutil.copytree(block.path, place / "data")
    before = tree(place / "data")
    (raw / "square/torn.png").write_bytes(b"torn")
    words = ["prepare", raw, "--sizes", "16", "--workers", 1]
    line = mistake(*words)
    assert "1 of 61 images cannot be used (square/torn.png: " in line and "--allow-rejects" in line
    assert tree(place / "data") == before
    assert genmodel(*words, "--allow-rejects", "0.05") == 0
    assert len(Block.open(place / "data")) == 60


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--sizes", "4"], ["--sizes", "8 to 4096"]),
        (["--val-fraction", "2"], ["--val-fraction", "between 0 and 1"]),
        (["--allow-rejects", "-1"], ["--allow-rejects", "between 0 and 1"]),
        (["--workers", "-2"], ["--workers", "-2"]),
        (["--out", "raw"], ["raw exists and is not a block"]),
    ],
)
def test_mistakes_in_preparing(words: list[str], expected: list[str], raw: Path, place: Path, mistake: Mistake) -> None:
    before = tree(place)
    line = mistake("prepare", raw, *words)
    assert all(part in line for part in expected), line
    assert tree(place) == before


def test_sizes_that_are_no_numbers(raw: Path, place: Path, mistake: Mistake) -> None:
    line = mistake("prepare", raw, "--sizes", "64;256")
    assert line == "--sizes: a size is written as 64 or 128x64 (width x height), not '64;256'"


def test_verify_names_the_damaged_file(block: Block, place: Path, mistake: Mistake) -> None:
    shutil.copytree(block.path, place / "data")
    shard = place / "data/8/shard-00000.npy"
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)
    assert "data/8/shard-00000.npy" in mistake("verify", "data")
