"""The census counts what the ledger knows, against images whose oddities are known."""

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmodel.cli import main
from genmodel.data.census import count

Encode = Callable[..., bytes]


@pytest.fixture
def odd(encode: Encode, picture: Callable[..., Image.Image]) -> dict[str, bytes]:
    rotated = Image.Exif()
    rotated[0x0112] = 6
    deep = Image.fromarray(np.full((20, 20), 40_000, "uint16"))
    plain = encode(picture(0, 40, 30), "JPEG")
    return {
        "a/1.JPEG": plain,
        "a/2.JPEG": encode(picture(1, 30, 30, "CMYK"), "JPEG"),
        "a/3.JPEG": encode(picture(2, 30, 31)),  # a PNG
        "a/4.JPEG": encode(picture(3, 30, 30, "L"), "JPEG"),
        "b/5.JPEG": encode(picture(4, 33, 30), "JPEG", exif=rotated.tobytes()),
        "b/6.png": encode(deep),
        "b/7.png": encode(picture(5, 15, 90, "RGBA")),
        "b/8.gif": encode(picture(6, 30, 30, "P"), "GIF", save_all=True, append_images=[picture(7, 30, 30, "P")]),
        "b/9.JPEG": plain,
        "b/x.JPEG": plain[:500],
        "b/y.JPEG": b"",
    }


def test_counts(odd: dict[str, bytes], make: Any, packed: Any, tmp_path: Path) -> None:
    rows = {row.what: (row.images, row.example) for row in count(make(packed("tar", odd), tmp_path / "data"))}
    expected = {
        "accepted": (9, "a/1.JPEG"),
        "format JPEG": (5, "a/1.JPEG"),
        "PNG named as JPEG": (1, "a/3.JPEG"),
        "CMYK": (1, "a/2.JPEG"),
        "greyscale": (2, "a/4.JPEG"),
        "palette": (1, "b/8.gif"),
        "alpha": (1, "b/7.png"),
        "transparent, composited on the background": (0, ""),  # all of it is opaque
        "16-bit, scaled to 8": (1, "b/6.png"),
        "rotated by EXIF, left as stored": (0, ""),
        "rotated by EXIF, turned upright": (1, "b/5.JPEG"),
        "animated, first frame used": (1, "b/8.gif"),
        "corrupt EXIF": (0, ""),
        "repaired in any way": (3, "b/5.JPEG"),
        "bytes that occur more than once": (2, "a/1.JPEG"),
        "pixels that occur more than once": (2, "a/1.JPEG"),
        "short side below 16 px": (1, "b/7.png"),
        "longer than 3:1": (1, "b/7.png"),
        "rejected": (2, "b/x.JPEG"),
        "rejected: an empty file": (1, "b/y.JPEG"),
    }
    assert {what: rows[what] for what in expected} == expected


def test_the_command(odd: Any, make: Any, packed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(packed("tar", odd), tmp_path / "data")
    assert main(["census", str(tmp_path / "data")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["accepted", "9", "81.818%"]
    assert len({line.index("%") for line in lines[1:]}) == 1  # aligned
    assert main(["census", str(tmp_path / "data"), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert next(row for row in rows if row["what"] == "CMYK")["images"] == "1"
    assert len(rows) == len(lines) - 1


def test_an_empty_census_line_has_no_example(images: dict[str, bytes], make: Any, packed: Any, tmp_path: Path) -> None:
    rows = {row.what: row for row in count(make(packed("tar", images), tmp_path / "data"))}
    assert rows["rejected"][1:] == (0, 0.0, "") and rows["named as another format"].images == 0
