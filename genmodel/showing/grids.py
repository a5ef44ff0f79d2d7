"""Images side by side, in one picture."""

import math
from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw
from torch import Tensor

from genmodel.files import durable

_GAP = 2  # pixels between the images of a grid


def grid(images: Tensor, columns: int | None = None, gap: int = _GAP, zoom: int = 1) -> Image.Image:
    """A picture of uint8 [N, H, W, 3] images in rows, white between them, each pixel drawn `zoom` times."""
    count, height, width, _ = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    height, width = height * zoom, width * zoom
    page = Image.new("RGB", (columns * (width + gap) + gap, rows * (height + gap) + gap), "white")
    for place, image in enumerate(images.cpu().numpy()):
        tile = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
        page.paste(tile, (gap + place % columns * (width + gap), gap + place // columns * (height + gap)))
    return page


def timeline(grids: Mapping[int, Image.Image], columns: int, shown: int) -> Image.Image:
    """How samples came to be: the first `shown` of each grid in a row, the images seen till then written before it.

    `grids` are pictures of `columns` images a row that `grid` made, by images seen. Where their codes are the same,
    a column shows one code all the way down.
    """
    margin = 96
    side = (next(iter(grids.values())).width - _GAP) // columns
    rows = {seen: picture.crop((0, 0, shown * side + _GAP, side)) for seen, picture in sorted(grids.items())}
    width, height = next(iter(rows.values())).size
    page = Image.new("RGB", (margin + width, height * len(rows)), "white")
    pen = ImageDraw.Draw(page)
    for place, (seen, row) in enumerate(rows.items()):
        page.paste(row, (margin, place * height))
        pen.text((margin - 8, (place + 0.5) * height), f"{seen:,}", fill="black", anchor="rm", font_size=15)
    return page


def save_grid(path: Path, images: Tensor, columns: int | None = None) -> None:
    """Write a PNG grid of uint8 [N, H, W, 3] images; small ones are enlarged so that a person can see them."""
    zoom = max(1, 64 // images.shape[1])
    picture = grid(images, columns, zoom=zoom)
    durable.write_with(path, lambda handle: picture.save(handle, format="PNG"))
