"""Contact sheets: what a person sees of a block, beside it and never in it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genmodel.data.block import Block
from genmodel.data.contact import beside, write_real, write_sheet
from genmodel.data.making.make import prepare
from genmodel.data.telling import class_lines, listed
from genmodel.sizes import Size


def block_of(folder: Path, modes: dict[str, str], count: int = 10) -> Block:
    """A class for each mode, of images of one level each: 100 and 200."""
    for place, (name, mode) in enumerate(modes.items()):
        (folder / "raw" / name).mkdir(parents=True)
        for number in range(count):
            level = 100 * (place + 1)
            picture = Image.new("RGB", (20, 12), (level, level - number, level))
            picture.convert(mode).save(folder / "raw" / name / f"{name}-{number:02d}-{'x' * 40}.png")
    return prepare(str(folder / "raw"), folder / "block", [8, "16x8"], workers=1, val_fraction=0)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_sheet_lies_beside_the_block_and_leaves_it_as_it_is(tmp_path: Path) -> None:
    block = block_of(tmp_path, {"dark": "RGB", "light": "RGB"})
    before = tree(block.path)
    out = beside(block)
    assert out == tmp_path / "block.contact.png" and tree(block.path) == before
    with Image.open(out) as sheet:
        assert sheet.size == (640, 4 * 194)
        levels = [sheet.getpixel((80 + 160 * (place % 4), 80 + 194 * (place // 4)))[0] for place in range(16)]
        assert levels == [100] * 8 + [200] * 8, "from all over the block"
        text = np.asarray(sheet.convert("L").crop((0, 160, 160, 194)))
        assert (text[:15] < 128).any() and (text[15:] < 128).any(), "class and name"


@pytest.mark.parametrize("mode", ["L", "RGBA", "RGB"])
def test_few_images_of_any_channels_make_a_sheet(tmp_path: Path, mode: str) -> None:
    block = block_of(tmp_path, {"only": mode}, count=3)
    write_sheet(block, tmp_path / "sheet.png")
    write_real(block, Size.of(8), tmp_path / "real.png")
    with Image.open(tmp_path / "sheet.png") as sheet, Image.open(tmp_path / "real.png") as real:
        assert sheet.size == (640, 194) and sheet.mode == real.mode == "RGB"


def test_real_images_are_a_row_for_each_class(tmp_path: Path) -> None:
    block = block_of(tmp_path, {"dark": "RGB", "light": "RGB"})
    write_real(block, Size.of(8), tmp_path / "real.png")
    with Image.open(tmp_path / "real.png") as picture:
        assert picture.size == (8 * 66 + 2, 2 * 66 + 2)
        rows = [{picture.getpixel((30 + 66 * column, 30 + 66 * row))[0] for column in range(8)} for row in range(2)]
        assert rows == [{100}, {200}]


def test_classes_are_told_with_their_numbers(tmp_path: Path) -> None:
    assert class_lines(block_of(tmp_path, {"dark": "RGB", "light": "RGB"})) == ["  dark  10", "  light  10"]
    many = listed({f"c{place}": place + 1 for place in range(25)}, 1234)
    assert len(many) == 22 and many[-2:] == ["  and 5 more classes of 21 to 25 images", "  without a label  1,234"]
