"""Sums of weighted pixels, compiled: what Pillow's resampler computes, on its own memory (32 bits a pixel).

`first`, `count` and `weights` are the taps of genmodel.data.resample. numba compiles these once for a kind of processor
and keeps them beside this file's bytecode.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BITS = 22  # of the fixed-point weights
_HALF = 1 << BITS - 1
_ROWS = 32  # worked on together: their pixels of one column are 128 bytes, some whole registers

_Pixels = NDArray[np.uint32]
_Taps = NDArray[np.int32]


class Kernels(NamedTuple):
    """The functions below, compiled."""

    columns: Callable[[_Pixels, _Taps, _Taps, _Taps], _Pixels]
    rows: Callable[[_Pixels, _Taps, _Taps, _Taps], NDArray[np.uint8]]
    pairs: Callable[[_Pixels], _Pixels]


@cache
def compiled() -> Kernels | None:
    """None where numba is missing, or has no folder to keep what it compiles in (NUMBA_CACHE_DIR names one)."""
    taps = "int32[::1], int32[::1], int32[:, ::1]"
    try:
        from numba import njit

        return Kernels(
            njit(f"uint32[:, ::1](uint32[:, ::1], {taps})", nogil=True, cache=True)(_columns),
            njit(f"uint8[:, :, ::1](uint32[:, ::1], {taps})", nogil=True, cache=True)(_rows),
            njit("uint32[:, ::1](uint32[:, ::1])", nogil=True, cache=True)(_pairs),
        )
    except (ImportError, RuntimeError, OSError, EOFError):
        return None


def _columns(pixels: _Pixels, first: _Taps, count: _Taps, weights: _Taps) -> _Pixels:
    """Resample each row of [height, width]: [height, len(first)].

    Some rows are turned on their side, so that one weight meets neighbours in memory, and turned back.
    """
    height, width = pixels.shape
    result = np.empty((height, len(first)), np.uint32)
    turned, made = np.empty((width, _ROWS), np.uint32), np.empty((len(first), _ROWS), np.uint32)
    levels, made_levels, sums = turned.view(np.uint8), made.view(np.uint8), np.empty(4 * _ROWS, np.int32)
    for top in range(0, height, _ROWS):
        rows = min(_ROWS, height - top)
        for x in range(width):
            for y in range(rows):
                turned[x, y] = pixels[top + y, x]
        for x in range(len(first)):
            sums[:] = _HALF
            for tap in range(count[x]):
                weight, line = weights[x, tap], levels[first[x] + tap]
                for i in range(4 * _ROWS):
                    sums[i] += weight * np.int32(line[i])
            for i in range(4 * _ROWS):
                made_levels[x, i] = min(max(sums[i] >> BITS, 0), 255)
        for y in range(rows):
            for x in range(len(first)):
                result[top + y, x] = made[x, y]
    return result


def _rows(pixels: _Pixels, first: _Taps, count: _Taps, weights: _Taps) -> NDArray[np.uint8]:
    """Resample each column of [height, width], and leave the fourth byte out: [len(first), width, 3]."""
    width, levels = pixels.shape[1], pixels.view(np.uint8)
    result = np.empty((len(first), width, 3), np.uint8)
    sums, made = np.empty(4 * width, np.int32), np.empty(4 * width, np.uint8)
    for y in range(len(first)):
        sums[:] = _HALF
        for tap in range(count[y]):
            weight, line = weights[y, tap], levels[first[y] + tap]
            for i in range(4 * width):
                sums[i] += weight * np.int32(line[i])
        for i in range(4 * width):
            made[i] = min(max(sums[i] >> BITS, 0), 255)
        for x in range(width):
            result[y, x, 0], result[y, x, 1], result[y, x, 2] = made[4 * x], made[4 * x + 1], made[4 * x + 2]
    return result


def _pairs(pixels: _Pixels) -> _Pixels:
    """(a + b + 1) // 2 of each byte of two neighbours in a row, of an even number of columns.

    That is what both have, and half of what they differ in, rounded up: four bytes at once.
    """
    height, width = pixels.shape
    result = np.empty((height, width // 2), np.uint32)
    for y in range(height):
        for x in range(width // 2):
            a, b = pixels[y, 2 * x], pixels[y, 2 * x + 1]
            result[y, x] = (a | b) - (((a ^ b) >> np.uint32(1)) & np.uint32(0x7F7F7F7F))
    return result
