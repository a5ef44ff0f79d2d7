"""BOX and BICUBIC of RGB images as Pillow computes them, bit for bit, in a fifth of its time where numba is installed.

A horizontal pass, then a vertical one, each rounded to 8 bits. Pillow's weights are fixed-point numbers of 22 bits, so
its sums are whole numbers that may be added in any order: here by compiled loops, on Pillow's own memory as its Arrow
interface shows it to pyarrow, and only for the pixels that are kept. Without numba or pyarrow, or for an image that
Pillow cannot show, it is Pillow.
"""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genmodel.data.making.kernels import compiled

_BOX, _BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC


def halve(image: Image.Image) -> Image.Image:
    """The same as image.resize((width // 2, height // 2), BOX), horizontally first, of an RGB image."""
    width, height = image.width // 2, image.height // 2
    kernels = compiled()
    pixels = _pixels(image) if kernels else None
    if kernels is None or pixels is None:
        return image.resize((width, image.height), _BOX).resize((width, height), _BOX)
    band = kernels.pairs(pixels, *kernels.taps(image.width, width, 0, width, False))
    levels = kernels.vertical(band, *kernels.taps(image.height, height, 0, height, False))
    return Image.frombytes("RGB", (width, height), levels)


def bicubic(image: Image.Image, size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """The middle [side, side, 3] of image.resize(size, BICUBIC), horizontally first, of an RGB image."""
    (width, height), (left, top) = size, ((length - side) // 2 for length in size)
    if size == image.size:  # each weight is 1: the same bits
        return np.asarray(image)[top : top + side, left : left + side]
    kernels = compiled()
    pixels = _pixels(image) if kernels else None
    if kernels is None or pixels is None:
        band = image.resize((width, image.height), _BICUBIC)
        band = band.crop((left, 0, left + side, image.height))  # now: the vertical pass mixes no columns
        return np.asarray(band.resize((side, height), _BICUBIC).crop((0, top, side, top + side)))
    levels = kernels.horizontal(pixels, *kernels.taps(image.width, width, left, side, True))
    return kernels.vertical(levels, *kernels.taps(image.height, height, top, side, True))


def _pixels(image: Image.Image) -> NDArray[np.uint32] | None:
    """A read-only view [height, width] of an image's memory; None where Pillow cannot show it."""
    from pyarrow import array

    try:
        memory = array(image).buffers()[-1]  # 4 uint8 a pixel; to_numpy() would import pandas
    except (ValueError, TypeError):  # more than 16 MiB, which it keeps in pieces; Pillow before 11.3
        return None
    assert memory.size == 4 * image.width * image.height, "Pillow's layout has changed"
    return np.frombuffer(memory, np.uint32).reshape(image.height, image.width)
