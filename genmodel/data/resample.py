"""BOX and BICUBIC of RGB images as Pillow computes them, bit for bit, in a fifth of its time where numba is installed.

A horizontal pass, then a vertical one, each rounded to 8 bits. Pillow's weights are fixed-point numbers of 22 bits, so
its sums are whole numbers that may be added in any order: here by compiled loops, on Pillow's own memory as its Arrow
interface shows it, and only for the pixels that are kept. Without numba, or for an image that Pillow cannot show, it is
Pillow.
"""

import ctypes

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from genmodel.data.kernels import compiled

_BOX, _BICUBIC = Image.Resampling.BOX, Image.Resampling.BICUBIC


def halve(image: Image.Image) -> Image.Image:
    """The same as image.resize((width // 2, height // 2), BOX), horizontally first, of an RGB image."""
    width, height = image.width // 2, image.height // 2
    kernels, pixels = compiled(), _pixels(image)
    if kernels is None or pixels is None:
        return image.resize((width, image.height), _BOX).resize((width, height), _BOX)
    band = kernels.pairs(pixels, *kernels.taps(image.width, width, 0, width, False))
    levels = kernels.vertical(band, *kernels.taps(image.height, height, 0, height, False))
    return Image.frombytes("RGB", (width, height), levels)


def bicubic(image: Image.Image, size: tuple[int, int], side: int) -> NDArray[np.uint8]:
    """The middle [side, side, 3] of image.resize(size, BICUBIC), horizontally first, of an RGB image."""
    (width, height), (left, top) = size, ((length - side) // 2 for length in size)
    kernels, pixels = compiled(), _pixels(image)
    if kernels is None or pixels is None:
        band = image.resize((width, image.height), _BICUBIC)
        band = band.crop((left, 0, left + side, image.height))  # now: the vertical pass mixes no columns
        return np.asarray(band.resize((side, height), _BICUBIC).crop((0, top, side, top + side)))
    levels = kernels.horizontal(pixels, *kernels.taps(image.width, width, left, side, True))
    return kernels.vertical(levels, *kernels.taps(image.height, height, top, side, True))


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

_pointer, _view = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyMemoryView_FromMemory
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_view.restype, _view.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int]
_WRITE = 0x200  # PyBUF_WRITE: the compiled functions take no read-only arrays


def _pixels(image: Image.Image) -> NDArray[np.uint32] | None:
    """A view [height, width] of an image's memory, good while the image is; None where Pillow cannot show it."""
    try:
        _, capsule = image.__arrow_c_array__()
    except (ValueError, AttributeError):  # more than 16 MiB, which it keeps in pieces; Pillow before 11.3
        return None
    array = _ArrowArray.from_address(_pointer(capsule, b"arrow_array"))
    values = array.children[0].contents  # 4 uint8 a pixel
    assert array.length == image.width * image.height and not values.offset, "Pillow's layout has changed"
    memory = _view(values.buffers[1], 4 * array.length, _WRITE)
    return np.frombuffer(memory, np.uint32).reshape(image.height, image.width)
