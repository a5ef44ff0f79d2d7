"""What Pillow's resampler computes, on Pillow's memory (32 bits per pixel), as functions that numba compiles.

numba compiles them once per kind of processor and caches the result beside this file's bytecode.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_BITS = 22  # of Pillow's fixed-point weights
_HALF = 1 << _BITS - 1
_ROWS = 32  # processed together: one column of them is 128 bytes, a whole number of registers

_Pixels = NDArray[np.uint32]
_Ints = NDArray[np.int32]
_Taps = tuple[_Ints, _Ints, _Ints]  # for each output pixel: its first input pixel, their number, their weights


class Kernels(NamedTuple):
    """The functions below, compiled."""

    taps: Callable[[int, float, int, int, int, bool], _Taps]
    horizontal: Callable[[_Pixels, _Ints, _Ints, _Ints], _Pixels]
    vertical: Callable[[_Pixels, _Ints, _Ints, _Ints, int], NDArray[np.uint8]]
    pairs: Callable[[_Pixels, _Ints, _Ints, _Ints], _Pixels]


def loaded() -> Kernels | None:
    """The functions, where `compiled` was called, in this process or in the one that it was forked from; else None."""
    return compiled() if compiled.cache_info().currsize else None


@cache
def compiled() -> Kernels | None:
    """The functions; None if numba is missing or has no folder for its cache (NUMBA_CACHE_DIR names one).

    None also without pyarrow, which exposes Pillow's memory (resample.py); it is imported before workers are forked.
    """
    try:
        import pyarrow  # noqa: F401
        from numba import njit, types

        taps = types.int32[::1], types.int32[::1], types.int32[:, ::1]
        shown = types.Array(types.uint32, 2, "C", readonly=True)
        band, levels, whole = types.uint32[:, ::1], types.uint8[:, :, ::1], types.int64
        return Kernels(
            njit(types.Tuple(taps)(whole, types.float64, whole, whole, whole, types.boolean), nogil=True, cache=True)(
                _taps
            ),
            njit(band(shown, *taps), nogil=True, cache=True)(_horizontal),
            njit(levels(band, *taps, whole), nogil=True, cache=True)(_vertical),
            njit(band(shown, *taps), nogil=True, cache=True)(_pairs),
        )
    except (ImportError, RuntimeError, OSError, EOFError):
        return None


def _taps(size: int, extent: float, target: int, start: int, count: int, cubic: bool) -> _Taps:
    """The taps of `count` output pixels, from `start` on, of a side resized from `size` to `target`, BICUBIC or BOX.

    The first `extent` of the `size` pixels become the whole side: Pillow's `box`.

    Rounding decides which input pixels are used, so this is Pillow's own arithmetic (src/libImaging/Resample.c,
    precompute_coeffs and normalize_coeffs_8bpc) in the same order. The cubic is Keys 1981, eq. 4, with a = -1/2.
    """
    scale = extent / target
    stretch = max(scale, 1.0)
    step, reach = 1 / stretch, (2.0 if cubic else 0.5) * stretch
    most = 2 * math.ceil(reach) + 1
    first, number = np.empty(count, np.int32), np.empty(count, np.int32)
    weights, exact = np.zeros((count, most), np.int32), np.empty(most)
    for i in range(count):
        centre, total = (start + i + 0.5) * scale, 0.0
        low, high = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), size)
        for tap in range(high - low):
            x = (tap + low - centre + 0.5) * step
            if not cubic:
                exact[tap] = -0.5 < x <= 0.5
            else:
                x = abs(x)
                near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
                exact[tap] = near if x < 1 else far if x < 2 else 0.0
            total += exact[tap]
        for tap in range(high - low):
            share = exact[tap] / total
            weights[i, tap] = int(share * (1 << _BITS) + (-0.5 if share < 0 else 0.5))
        first[i], number[i] = low, high - low
    return first, number, weights


def _horizontal(pixels: _Pixels, first: _Ints, count: _Ints, weights: _Ints) -> _Pixels:
    """Resample [height, width] horizontally, each row by itself: [height, len(first)].

    A block of rows is transposed, only the columns in use, so that one weight is applied to neighbours in memory.
    """
    height, left, right = len(pixels), first[0], first[-1] + count[-1]
    result = np.empty((height, len(first)), np.uint32)
    turned, made = np.empty((right - left, _ROWS), np.uint32), np.empty((len(first), _ROWS), np.uint32)
    levels, made_levels, sums = turned.view(np.uint8), made.view(np.uint8), np.empty(4 * _ROWS, np.int32)
    for top in range(0, height, _ROWS):
        rows = min(_ROWS, height - top)
        for x in range(left, right):
            for y in range(rows):
                turned[x - left, y] = pixels[top + y, x]
        for x in range(len(first)):
            sums[:] = _HALF
            for tap in range(count[x]):
                weight, line = weights[x, tap], levels[first[x] - left + tap]
                for i in range(4 * _ROWS):
                    sums[i] += weight * np.int32(line[i])
            for i in range(4 * _ROWS):
                made_levels[x, i] = min(max(sums[i] >> _BITS, 0), 255)
        for y in range(rows):
            for x in range(len(first)):
                result[top + y, x] = made[x, y]
    return result


def _vertical(pixels: _Pixels, first: _Ints, count: _Ints, weights: _Ints, bands: int) -> NDArray[np.uint8]:
    """Resample [height, width] vertically and drop unused bytes: [len(first), width, bands], 3 or 4 bands."""
    width, levels = pixels.shape[1], pixels.view(np.uint8)
    result = np.empty((len(first), width, bands), np.uint8)
    sums, made = np.empty(4 * width, np.int32), np.empty(4 * width, np.uint8)
    for y in range(len(first)):
        sums[:] = _HALF
        for tap in range(count[y]):
            weight, line = weights[y, tap], levels[first[y] + tap]
            for i in range(4 * width):
                sums[i] += weight * np.int32(line[i])
        for i in range(4 * width):
            made[i] = min(max(sums[i] >> _BITS, 0), 255)
        for x in range(width):
            result[y, x, 0], result[y, x, 1], result[y, x, 2] = made[4 * x], made[4 * x + 1], made[4 * x + 2]
            if bands == 4:
                result[y, x, 3] = made[4 * x + 3]
    return result


def _pairs(pixels: _Pixels, first: _Ints, count: _Ints, weights: _Ints) -> _Pixels:
    """The same as horizontal(), but fast, for the taps of BOX that halves a row: [height, width // 2].

    Nearly all output pixels are (a + b + 1) // 2 of two neighbours: the bits that both have plus half of the bits that
    differ, rounded up, four bytes at once. In an odd row one output pixel takes three; all after it start one later.
    """
    height, places = pixels.shape[0], len(first)
    odd, middle = pixels.shape[1] - 2 * places, 0
    while middle < places and first[middle] == 2 * middle and weights[middle, 0] == weights[middle, 1] == _HALF:
        middle += 1
    result = np.empty((height, places), np.uint32)
    for y in range(height):
        for x in range(middle):
            a, b = pixels[y, 2 * x], pixels[y, 2 * x + 1]
            result[y, x] = (a | b) - (((a ^ b) >> np.uint32(1)) & np.uint32(0x7F7F7F7F))
        for x in range(middle, places):
            a, b = pixels[y, 2 * x + odd], pixels[y, 2 * x + odd + 1]
            result[y, x] = (a | b) - (((a ^ b) >> np.uint32(1)) & np.uint32(0x7F7F7F7F))
    levels, made = pixels.view(np.uint8), result.view(np.uint8)
    for x in range(middle, places):
        tap = 2 * x + odd - first[x]
        if tap >= 0 and tap + 1 < count[x] and weights[x, tap] == weights[x, tap + 1] == _HALF:
            continue
        for y in range(height):
            for channel in range(4):
                total = _HALF
                for tap in range(count[x]):
                    total += weights[x, tap] * np.int64(levels[y, 4 * (first[x] + tap) + channel])
                made[y, 4 * x + channel] = min(max(total >> _BITS, 0), 255)
    return result
