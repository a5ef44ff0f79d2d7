"""Contact sheets: images of a block side by side, with or without their names. Needs no torch."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from genmodel.data.block import SPLITS, Block
from genmodel.files import durable
from genmodel.output.printable import printable
from genmodel.sizes import Size

_GAP = 2  # pixels between images without names
_COLUMNS, _CLASSES = 8, 16  # of sample grids: images in a row, and rows at most where each is a class
_CELL, _TEXT = 160, 34  # pixels, of an image with its name and of the two lines below it
_LETTERS = 24  # of a line


def beside(block: Block) -> Path:
    """Write the block's contact sheet beside its folder, where it is no part of the data, and say where that is."""
    out = block.path.with_name(f"{block.path.name}.contact.png")
    write_sheet(block, out)
    return out


def write_sheet(block: Block, out: Path) -> None:
    """Write a PNG of 16 images from all over the block at its largest size, each with its class and its file's name."""
    columns, chosen = 4, spread(np.arange(len(block)), 16)
    size = max(block.sizes, key=lambda size: size.height * size.width)
    ledger = block.ledger(["name", "class"])
    page = Image.new("RGB", (columns * _CELL, -(-len(chosen) // columns) * (_CELL + _TEXT)), "white")
    pen = ImageDraw.Draw(page)
    for place, (row, pixels) in enumerate(zip(chosen, block.gather(size, chosen), strict=True)):
        left, top = place % columns * _CELL, place // columns * (_CELL + _TEXT)
        tile = _fitted(_picture(pixels), _CELL - 12)
        page.paste(tile, (left + (_CELL - tile.width) // 2, top + (_CELL - tile.height) // 2))
        for line, text in enumerate((ledger["class"][row] or "(no label)", Path(ledger["name"][row]).name)):
            at = (left + _CELL // 2, top + _CELL + line * 15)
            pen.text(at, _short(printable(text)), fill="black", anchor="ma", font_size=12)
    durable.write_with(out, lambda handle: page.save(handle, format="PNG"))


def write_real(block: Block, size: Size, out: Path) -> None:
    """Write a PNG of real images arranged as sample grids are (genmodel/showing/samples.py): a row for each class if
    there are several, and val images if there are enough."""
    held_out = np.flatnonzero(block.splits == SPLITS["val"])
    rows = held_out if len(held_out) >= _COLUMNS * _CLASSES else np.arange(len(block))
    if len(block.classes) > 1:
        by_class = [rows[block.labels[rows] == label] for label in range(min(len(block.classes), _CLASSES))]
        lines = [spread(members, _COLUMNS) for members in by_class]
    else:
        lines = np.array_split(spread(rows, _COLUMNS * _COLUMNS), _COLUMNS)
    images = [list(map(_picture, block.gather(size, line))) for line in lines]
    zoom = max(1, 64 // max(size))
    width, height = size.width * zoom, size.height * zoom
    page = Image.new("RGB", (_COLUMNS * (width + _GAP) + _GAP, len(lines) * (height + _GAP) + _GAP), "white")
    for down, line in enumerate(images):
        for across, image in enumerate(line):
            tile = image.resize((width, height), Image.Resampling.NEAREST)
            page.paste(tile, (_GAP + across * (width + _GAP), _GAP + down * (height + _GAP)))
    durable.write_with(out, lambda handle: page.save(handle, format="PNG"))


def spread(rows: Sequence[int] | np.ndarray, count: int) -> np.ndarray:
    """At most `count` of the rows, evenly spaced, int64."""
    rows = np.asarray(rows, np.int64)
    return rows if len(rows) <= count else rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]


def _picture(pixels: np.ndarray) -> Image.Image:
    """uint8 [H, W, C] as RGB; transparency shows light grey."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    if picture.mode != "RGBA":
        return picture.convert("RGB")
    page = Image.new("RGB", picture.size, "#d0d0d0")
    page.paste(picture, mask=picture)
    return page


def _fitted(picture: Image.Image, side: int) -> Image.Image:
    """As large as fits into a square of `side` pixels; a small one in whole multiples of its pixels."""
    zoom = side // max(picture.size)
    if zoom:
        return picture.resize((picture.width * zoom, picture.height * zoom), Image.Resampling.NEAREST)
    picture.thumbnail((side, side))
    return picture


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 9]}…{text[-8:]}"
