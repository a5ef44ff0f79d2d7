"""BOX and BICUBIC as Pillow computes them, bit for bit, in a fifth of its time where numba is installed.

For RGB and RGBa images: a horizontal pass, then a vertical one, each rounded to 8 bits. Pillow's weights are
fixed-point numbers of 22 bits, so its sums are integers that can be added in any order: here by compiled loops, on
Pillow's own memory as its Arrow interface exposes it to pyarrow, and only for the pixels that are kept. Without numba
or pyarrow, for an image that Pillow cannot expose, and where nobody has asked for the loops, Pillow does it.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genmodel.data.imaging.kernels import loaded
from genmodel.sizes import Size

_BOX, _BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC


def halve(image: Image.Image) -> Image.Image:
    """The same as image.resize((width // 2, height // 2), BOX), horizontally first."""
    width, height = image.width // 2, image.height // 2
    kernels = loaded()
    pixels = _pixels(image) if kernels else None
    if kernels is None or pixels is None:
        return image.resize((width, image.height), _BOX).resize((width, height), _BOX)
    band = kernels.pairs(pixels, *kernels.taps(image.width, image.width, width, 0, width, False))
    levels = kernels.vertical(
        band, *kernels.taps(image.height, image.height, height, 0, height, False), len(image.getbands())
    )
    return Image.frombytes(image.mode, (width, height), levels)


def bicubic(
    image: Image.Image, size: tuple[int, int], target: Size, extent: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """The centre [H, W, bands] of image.resize(size, BICUBIC), horizontally first, as large as `target`.

    `extent` is the width and height of what is resized, from the top left corner; None: the whole image.
    """
    extent = extent or image.size
    (width, height), (rows, columns) = size, target
    left, top = (width - columns) // 2, (height - rows) // 2
    if size == image.size == extent:  # each weight is 1: the same bits
        return np.asarray(image)[top : top + rows, left : left + columns]
    kernels = loaded()
    pixels = _pixels(image) if kernels else None
    if kernels is None or pixels is None:
        band = image.resize((width, image.height), _BICUBIC, box=(0, 0, extent[0], image.height))
        band = band.crop((left, 0, left + columns, image.height))  # now: the vertical pass mixes no columns
        band = band.resize((columns, height), _BICUBIC, box=(0, 0, columns, extent[1]))
        return np.asarray(band.crop((0, top, columns, top + rows)))
    levels = kernels.horizontal(pixels, *kernels.taps(image.width, extent[0], width, left, columns, True))
    return kernels.vertical(
        levels, *kernels.taps(image.height, extent[1], height, top, rows, True), len(image.getbands())
    )


def _pixels(image: Image.Image) -> NDArray[np.uint32] | None:
    """A read-only view [height, width] of an image's memory; None where Pillow cannot expose it."""
    from pyarrow import array

    try:
        memory = array(image).buffers()[-1]  # 4 uint8 a pixel; to_numpy() would import pandas
    except (ValueError, TypeError):  # over 16 MiB, which Pillow keeps in pieces; Pillow before 11.3
        return None
    assert memory.size == 4 * image.width * image.height, "Pillow's layout has changed"
    return np.frombuffer(memory, np.uint32).reshape(image.height, image.width)
