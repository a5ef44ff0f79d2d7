"""Images in a row, each under its name."""

import math
from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from genmodel.pixels import to_rgb
from genmodel.showing.grids import grid, zoom_of

_COLUMNS = 10
_LINE, _FONT = 20, 14  # pixels: the height for a name, and of its letters
_HOLE = (255, 128, 64)  # a colour that is rarely in an image


def page(tiles: Mapping[str, Tensor]) -> Image.Image:
    """Images of one size, uint8 [H, W, C] by name, in rows of ten; small ones are enlarged to be visible."""
    pictures = {name: grid(image[None], 1, zoom=zoom_of(image)) for name, image in tiles.items()}
    width, height = next(iter(pictures.values())).size
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    width = max(width, *(math.ceil(pen.textlength(name, font_size=_FONT)) + 8 for name in tiles))
    columns, height = min(_COLUMNS, len(pictures)), height + _LINE
    made = Image.new("RGB", (columns * width, -(-len(pictures) // columns) * height), "white")
    pen = ImageDraw.Draw(made)
    for place, (name, picture) in enumerate(pictures.items()):
        left, top = place % columns * width, place // columns * height
        pen.text((left + width / 2, top + _LINE / 2), name, fill="black", anchor="mm", font_size=_FONT)
        made.paste(picture, (left + (width - picture.width) // 2, top + _LINE))
    return made


def masked(image: Tensor, known: Tensor) -> Tensor:
    """uint8 [H, W, C] as RGB, with orange in place of what is not known."""
    return torch.where(known[:, :, None], to_rgb(image[None])[0], torch.tensor(_HOLE, dtype=torch.uint8))
