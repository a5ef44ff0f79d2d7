"""The order of images in training: a function of (seed, position) alone, with nothing to store or to replay.

Each epoch is a permutation of the split by a keyed Feistel network over a grid of rows x columns just large enough for
it, with cycle walking (Black and Rogaway 2002, "Ciphers with arbitrary finite domains"), so that the place of one
image can be computed without the others'. The mixing function is splitmix64's (Steele, Lea and Flood 2014).
"""

import math

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]

_ROUNDS = 8
_EPOCH, _FLIP, _LABEL = 0x65706F6368, 0x666C6970, 0x6C6162656C  # keep the streams of random bits apart


def order(positions: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Which of `count` images (0 <= i < count) is seen at each position, int64 [n] -> int64 [n].

    A position is the number of images seen before; every `count` positions are an epoch, a permutation of its own.
    """
    epochs, places = np.divmod(positions, count)
    return _permute(places, mix(epochs.astype(np.uint64), _key(seed, _EPOCH)), count)


def flips(positions: np.ndarray, seed: int) -> np.ndarray:
    """Whether the image at each position is mirrored: bool [n], half of them."""
    return (mix(positions.astype(np.uint64), _key(seed, _FLIP)) >> np.uint64(63)).astype(bool)


def labelled_places(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Which of labels int64 [n] are among the `count` of their class that the seed chooses: bool [n].

    All of a class that has no more than that.
    """
    draws = mix(np.arange(len(labels), dtype=np.uint64), _key(seed, _LABEL))
    ranks = np.empty(len(labels), np.int64)
    by_class = np.lexsort((draws, labels))
    ordered = labels[by_class]
    ranks[by_class] = np.arange(len(labels)) - np.searchsorted(ordered, ordered)
    return ranks < count


def _permute(places: np.ndarray, keys: Bits, count: int) -> np.ndarray:
    columns = math.isqrt(count - 1) + 1
    rows = -(-count // columns)
    result = _feistel(places, keys, rows, columns)
    while (outside := np.flatnonzero(result >= count)).size:  # few: the grid has less than a row to spare
        result[outside] = _feistel(result[outside], keys[outside], rows, columns)
    return result


def _feistel(places: np.ndarray, keys: Bits, rows: int, columns: int) -> np.ndarray:
    """A permutation of 0 .. rows * columns - 1 for each key: every round can be undone."""
    left: Bits
    right: Bits
    left, right = (half.astype(np.uint64) for half in np.divmod(places, columns))
    for step in range(0, _ROUNDS, 2):
        left = _remainder(left + _remainder(mix(right, keys + np.uint64(step)), rows), rows)
        right = _remainder(right + _remainder(mix(left, keys + np.uint64(step + 1)), columns), columns)
    return (left * np.uint64(columns) + right).astype(np.int64)


def _remainder(value: Bits, divisor: int) -> Bits:
    """value % divisor; numpy divides by a constant several times faster than it takes a remainder."""
    return value - value // np.uint64(divisor) * np.uint64(divisor)


def _key(seed: int, stream: int) -> Bits:
    return mix(np.array([seed], np.uint64), np.array([stream], np.uint64))


def mix(value: Bits, key: Bits) -> Bits:
    """64 random-looking bits of (value, key), uint64 [n]; sums and products wrap."""
    bits = (value + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key * np.uint64(0xD1342543DE82EF95)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    result: Bits = bits ^ (bits >> np.uint64(31))
    return result
