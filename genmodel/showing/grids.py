"""Images side by side, in one picture."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genmodel.files import durable
from genmodel.pixels import to_rgb
from genmodel.sizes import Size

_GAP = 2  # pixels between the images of a grid


def grid(images: Tensor, columns: int | None = None, gap: int = _GAP, zoom: int = 1) -> Image.Image:
    """A picture of uint8 [N, H, W, C] images in rows, white between them, each pixel drawn `zoom` times.

    Grey for grey images, else RGB: transparency is shown over a checkerboard.
    """
    count, height, width, channels = images.shape
    flat = images[..., 0] if channels == 1 else to_rgb(images, _checker(height, width).to(images.device))
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    height, width = height * zoom, width * zoom
    mode = "L" if channels == 1 else "RGB"
    page = Image.new(mode, (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for place, image in enumerate(flat.cpu().numpy()):
        tile = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
        page.paste(tile, (gap + place % columns * (width + gap), gap + place // columns * (height + gap)))
    return page


def _checker(height: int, width: int) -> Tensor:
    """Alternating white and light grey, int32 [H, W, 1], eight squares along the short side."""
    square = max(1, min(height, width) // 8)
    rows, columns = torch.arange(height)[:, None] // square, torch.arange(width)[None, :] // square
    return (255 - 64 * ((rows + columns) % 2)).int()[..., None]


def timeline(grids: Mapping[int, Image.Image], columns: int, size: Size) -> Image.Image:
    """How samples developed: the first row of each grid, with the images seen by then written before it.

    `grids` are pictures made by `grid`, with `columns` images of `size` per row, by images seen. If their codes are the
    same, each column shows one code.
    """
    margin = 96
    first = next(iter(grids.values()))
    width = first.width
    height = ((width - _GAP) // columns - _GAP) * size.height // size.width + _GAP
    rows = {seen: picture.crop((0, 0, width, height)) for seen, picture in sorted(grids.items())}
    page = Image.new(first.mode, (margin + width, height * len(rows)), "white")
    pen = ImageDraw.Draw(page)
    for place, (seen, row) in enumerate(rows.items()):
        page.paste(row, (margin, place * height))
        pen.text((margin - 8, (place + 0.5) * height), f"{seen:,}", fill="black", anchor="rm", font_size=15)
    return page


def zoom_of(images: Tensor) -> int:
    """How often to draw each pixel of small images [..., H, W, C], so that they can be seen."""
    return max(1, 64 // max(images.shape[-3:-1]))


def save_grid(path: Path, images: Tensor, columns: int | None = None) -> None:
    """Write a PNG grid of uint8 [N, H, W, C] images; small ones are enlarged to be visible."""
    picture = grid(images, columns, zoom=zoom_of(images))
    durable.write_with(path, lambda handle: picture.save(handle, format="PNG"))
