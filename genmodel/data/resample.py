"""BOX and BICUBIC of RGB images as Pillow computes them, bit for bit, in a fifth of its time where numba is installed.

Columns first, each of the two rounded to 8 bits. Pillow's weights are fixed-point numbers of 22 bits, so its sums are
whole numbers that may be added in any order: here by compiled loops, on Pillow's own memory as its Arrow interface
shows it, and only for the pixels that are kept. Without numba, or for an image that Pillow cannot show, it is Pillow.
"""

import ctypes
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genmodel.data.kernels import BITS, compiled

_FEW = 4096  # places whose taps are kept: 160 KB at most

_Levels = NDArray[np.uint8]
_Values = NDArray[np.float64]


def halve(image: Image.Image) -> Image.Image:
    """The same as image.resize((width // 2, height // 2), BOX), columns before rows, of an RGB image."""
    width, height = image.width // 2, image.height // 2
    kernels, pixels = compiled(), _pixels(image)
    if kernels is None or pixels is None:
        return image.resize((width, image.height), BOX.pillow).resize((width, height), BOX.pillow)
    if image.width % 2:
        band = kernels.columns(pixels, *_taps(BOX, image.width, width, 0, width))
    else:
        band = kernels.pairs(pixels)
    return Image.frombytes("RGB", (width, height), kernels.rows(band, *_taps(BOX, image.height, height, 0, height)))


def bicubic(image: Image.Image, size: tuple[int, int], side: int) -> _Levels:
    """The middle [side, side, 3] of image.resize(size, BICUBIC), columns before rows, of an RGB image."""
    (width, height), (left, top) = size, ((length - side) // 2 for length in size)
    kernels, pixels = compiled(), _pixels(image)
    if kernels is None or pixels is None:
        band = image.resize((width, image.height), BICUBIC.pillow)
        band = band.crop((left, 0, left + side, image.height))  # now, not at the end: columns do not mix any more
        return np.asarray(band.resize((side, height), BICUBIC.pillow).crop((0, top, side, top + side)))
    columns = kernels.columns(pixels, *_taps(BICUBIC, image.width, width, left, side))
    result: _Levels = kernels.rows(columns, *_taps(BICUBIC, image.height, height, top, side))
    return result


class _Filter(NamedTuple):
    """A function of the distance in target pixels, 0 beyond its reach."""

    pillow: Image.Resampling
    reach: float
    weigh: Callable[[_Values], _Values]


def _box(x: _Values) -> _Values:
    return ((x > -0.5) & (x <= 0.5)).astype(np.float64)


def _cubic(x: _Values) -> _Values:
    """Keys 1981, eq. 4, with a = -1/2."""
    a, x = -0.5, np.abs(x)
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


BOX = _Filter(Image.Resampling.BOX, 0.5, _box)
BICUBIC = _Filter(Image.Resampling.BICUBIC, 2.0, _cubic)

_Taps = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def _taps(kind: _Filter, size: int, target: int, start: int, count: int) -> _Taps:
    """Of `count` places of a side that goes from `size` to `target` pixels, from the place `start` on.

    The first pixel that each is made of [count], their number [count], and their weights [count, most]. Which pixels
    these are is a matter of rounding, so this is Pillow's own arithmetic (src/libImaging/Resample.c, precompute_coeffs
    and normalize_coeffs_8bpc) in the same order.
    """
    return (_kept_taps if count <= _FEW else _new_taps)(kind, size, target, start, count)


def _new_taps(kind: _Filter, size: int, target: int, start: int, count: int) -> _Taps:
    scale = size / target
    stretch = max(scale, 1.0)
    centre = (np.arange(start, start + count) + 0.5) * scale
    first = np.maximum((centre - kind.reach * stretch + 0.5).astype(np.int64), 0)
    number = np.minimum((centre + kind.reach * stretch + 0.5).astype(np.int64), size) - first
    taps = np.arange(number.max())
    weights = kind.weigh((taps + first[:, None] - centre[:, None] + 0.5) * (1 / stretch))
    weights[taps >= number[:, None]] = 0
    weights /= np.add.accumulate(weights, axis=1)[:, -1:]  # a sum in their order, as numpy's own is not
    fixed = weights * (1 << BITS) + np.where(weights < 0, -0.5, 0.5)
    return first.astype(np.int32), number.astype(np.int32), fixed.astype(np.int32)


_kept_taps = lru_cache(1024)(_new_taps)


class _ArrowArray(ctypes.Structure):
    """Of the Arrow C data interface, https://arrow.apache.org/docs/format/CDataInterface.html."""


_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
]

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


def _pixels(image: Image.Image) -> NDArray[np.uint32] | None:
    """A view [height, width] of an image's memory, good while the image is; None where Pillow cannot show it."""
    try:
        _, capsule = image.__arrow_c_array__()
    except (ValueError, AttributeError):  # more than 16 MiB, which it keeps in pieces; Pillow before 11.3
        return None
    array = _ArrowArray.from_address(_pointer(capsule, b"arrow_array"))
    values = array.children[0].contents  # 4 uint8 a pixel
    assert array.length == image.width * image.height and not values.offset, "Pillow's layout has changed"
    memory = (ctypes.c_uint32 * array.length).from_address(values.buffers[1])
    return np.frombuffer(memory, np.uint32).reshape(image.height, image.width)
