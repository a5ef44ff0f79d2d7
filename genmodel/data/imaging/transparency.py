"""Transparent images: composed on a background, or kept as alpha. Colours that alpha hides are never shown.

All in integers: colour * alpha / 255 + background * (255 - alpha) / 255, rounded once.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genmodel.data.making.recipe import CHECKER, Recipe

_SQUARE = 8  # pixels of the original: the side of a checker's squares
_LIGHT, _WHITE = 204, 255


def composed(image: Image.Image, recipe: Recipe) -> tuple[Image.Image, bool]:
    """The RGB image on the recipe's background, and whether any of it shows."""
    pixels = _rgba(image)
    if pixels is None:
        return image if image.mode == "RGB" else image.convert("RGB"), False
    alpha = pixels[..., 3:].astype(np.uint16)
    behind = _checker(image) if recipe.background == CHECKER else np.array(recipe.colour, np.uint16)
    return Image.fromarray(((pixels[..., :3] * alpha + behind * (255 - alpha) + 127) // 255).astype(np.uint8)), True


def premultiplied(image: Image.Image) -> tuple[Image.Image, bool]:
    """The RGBa image, each colour times its alpha, and whether any of it is transparent.

    It can be resized without hidden colours leaking in.
    """
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    return rgba.convert("RGBa"), rgba.getextrema()[-1] != (255, 255)


def straight(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Premultiplied pixels [H, W, 4] converted back to straight colours; those of alpha 0 get the background's."""
    alpha = pixels[..., 3:].astype(np.int32)
    own = (pixels[..., :3] * np.int32(255) + alpha // 2) // np.maximum(alpha, 1)
    shown = np.where(alpha > 0, np.minimum(own, 255), np.array(colour, np.int32))
    return np.concatenate([shown.astype(np.uint8), pixels[..., 3:]], -1)


def _rgba(image: Image.Image) -> NDArray[np.uint8] | None:
    """An image's pixels [H, W, 4]; None where all of them are opaque."""
    if not image.has_transparency_data:
        return None
    rgba = image if image.mode == "RGBA" else image.convert("RGBA")
    return None if rgba.getextrema()[-1] == (255, 255) else np.asarray(rgba)


def _checker(image: Image.Image) -> NDArray[np.uint16]:
    rows, columns = (np.arange(length)[:, None] // _SQUARE for length in (image.height, image.width))
    return np.where((rows + columns.T) % 2, _LIGHT, _WHITE).astype(np.uint16)[..., None]


def scale_key(image: Image.Image, content: bytes) -> None:
    """Scale the transparent level or colour of a PNG to 8 bits, like its pixels; Pillow does not."""
    key = image.info.get("transparency")
    if image.format != "PNG" or key is None:
        return
    depth = content[24]
    if isinstance(key, int) and image.mode == "L" and depth in (2, 4):
        image.info["transparency"] = key * 255 // ((1 << depth) - 1)
    elif isinstance(key, tuple) and depth == 16:
        image.info["transparency"] = tuple(level >> 8 for level in key)
