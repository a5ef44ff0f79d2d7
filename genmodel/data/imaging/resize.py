"""From an image to the pixels of each size, by the resize of ADM (guided diffusion), the field's usual one.

Halve with BOX while both sides are at least twice what is needed; BICUBIC until the target is just covered; the centre,
in whole pixels. For a square target this is ADM's recipe: Dhariwal and Nichol 2021, https://arxiv.org/abs/2105.05233.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genmodel.data.imaging.resample import bicubic, halve
from genmodel.data.sources.members import Reject
from genmodel.sizes import Size

Extent = tuple[float, float]  # width and height

_PARTS = 64  # per pixel
MAX_RESIZED_PIXELS = 1 << 26  # 64 Mpx between the resize and the crop: a 1x40000 image would need more


def resize(image: Image.Image, target: Size | int, extent: Extent | None = None) -> NDArray[np.uint8]:
    """An RGB image as uint8 [H, W, 3], a premultiplied RGBa one as [H, W, 4]; Reject for an absurd aspect ratio."""
    size = Size.of(target)
    return resize_all(image, [size], extent)[size]


def resize_all(
    image: Image.Image, targets: Sequence[Size], extent: Extent | None = None
) -> dict[Size, NDArray[np.uint8]]:
    """`resize` to several sizes, each from the original; they share the halvings, which changes no pixel.

    `extent` is the width and height of an image that was decoded at a reduced scale: 93.75 of its 94 pixels, say.

    The horizontal pass comes before the vertical one, as always in Pillow before 13; later versions start with the
    vertical pass for some tall images, which rounds differently.
    """
    result, halved = {}, 0
    extent = extent or image.size
    for halvings, target in sorted((_halvings(extent, target), target) for target in targets):
        while halved < halvings:
            whole, image, halved = image.size, halve(image), halved + 1
            extent = _shrunk(extent[0], whole[0], image.width), _shrunk(extent[1], whole[1], image.height)
        scale = max(target.width / extent[0], target.height / extent[1])
        width, height = round(extent[0] * scale), round(extent[1] * scale)
        if width * height > MAX_RESIZED_PIXELS:
            raise Reject(f"too long and narrow: {width}x{height} at {target} px")
        result[target] = bicubic(image, (width, height), target, extent)
    return result


def _shrunk(extent: float, before: int, after: int) -> float:
    """The extent of a side after a reduction, in fractions that Pillow's 32-bit floats hold exactly."""
    return round(extent * after / before * _PARTS) / _PARTS


def _halvings(extent: Extent, target: Size) -> int:
    """How often both sides can be halved and still cover the target's."""
    ratio = min(int(extent[0]) // target.width, int(extent[1]) // target.height)
    return max(0, ratio.bit_length() - 1)
