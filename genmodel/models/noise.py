"""The noise that images are drawn from, declared by a model, so that every reader of the declaration draws the same.

    space = Space((uniform(62), categorical(10)))
    space.draw(image_seeds(3, 16))      # of 16 images, float32 [16, 63]; image i gets the same in a request of any size

This file needs only numpy: a copy of it is shipped in each registered model (flows/registry/packaging.py).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

_IMAGE, _CLASS = 0x696D616765, 0x636C617373  # keep the two streams of random bits apart


@dataclass(frozen=True)
class Part:
    """Numbers of one distribution: N(0, 1); uniform on [-1, 1); or one of 0 .. classes - 1, equally likely."""

    kind: Literal["normal", "uniform", "categorical"]
    shape: tuple[int, ...]
    classes: int = 0  # of a categorical part

    def __post_init__(self) -> None:
        if self.kind not in ("normal", "uniform", "categorical"):
            raise ValueError(f"noise of an unknown kind: {self.kind}")
        if any(size < 1 for size in self.shape) or (self.kind == "categorical") != (self.classes > 0):
            raise ValueError(f"no noise can be of this form: {self}")

    @property
    def width(self) -> int:
        return math.prod(self.shape)


def normal(*shape: int) -> Part:
    return Part("normal", shape)


def uniform(*shape: int) -> Part:
    return Part("uniform", shape)


def categorical(classes: int, *shape: int) -> Part:
    """`shape` choices among `classes`; one choice by default."""
    return Part("categorical", shape or (1,), classes)


@dataclass(frozen=True)
class Space:
    """The parts of one image's noise, side by side in a row of `width` numbers.

    `meaningful`: whether interpolated noise gives interpolated images; false if the noise draws pixel after pixel.
    """

    parts: tuple[Part, ...]
    meaningful: bool = True

    @property
    def width(self) -> int:
        return sum(part.width for part in self.parts)

    def draw(self, seeds: np.ndarray) -> np.ndarray:
        """The noise of images from their seeds, uint64 [N] -> float32 [N, width]; a choice is a whole number."""
        columns = np.arange(self.width, dtype=np.uint64)
        bits = _mix(columns[None, :], seeds[:, None])
        drawn, start = np.empty(bits.shape, np.float32), 0
        for part in self.parts:
            place = np.s_[:, start : start + part.width]
            drawn[place] = _drawn(part, bits[place])
            start += part.width
        return drawn

    def split(self, noise: Any) -> list[Any]:
        """Rows [N, width] (numpy or torch) as a list of the parts: [N, *shape] each."""
        found, start = [], 0
        for part in self.parts:  # not len(noise), which would fix the number of images in an exported graph
            found.append(noise[:, start : start + part.width].reshape(noise.shape[0], *part.shape))
            start += part.width
        return found

    def as_dict(self) -> dict[str, Any]:
        """For JSON and YAML."""
        parts = [{**asdict(part), "shape": list(part.shape)} for part in self.parts]
        return {"parts": parts, "meaningful": self.meaningful}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Space":
        """What `as_dict` gave; ValueError, KeyError or TypeError for anything else."""
        parts = [Part(part["kind"], tuple(map(int, part["shape"])), int(part["classes"])) for part in told["parts"]]
        return cls(tuple(parts), bool(told["meaningful"]))


def image_seeds(seed: int, n: int, first: int = 0) -> np.ndarray:
    """The seeds of images first, first + 1, ... of a request with `seed`: uint64 [n], the same for any n.

    0 <= seed < 2**64.
    """
    return _mix(np.arange(first, first + n, dtype=np.uint64), _mix(np.array([seed], np.uint64), _IMAGE))


def draw_labels(seeds: np.ndarray, shares: Sequence[float]) -> np.ndarray:
    """A class for each image, from its seed, if none is asked for: int64 [N], class k as often as `shares` say."""
    points = _unit(_mix(np.array([_CLASS], np.uint64), seeds))
    bounds = np.cumsum(np.asarray(shares, np.float64))
    places = np.searchsorted(bounds, points * bounds[-1], side="right")
    labels: np.ndarray = np.minimum(places, len(bounds) - 1).astype(np.int64)
    return labels


def _drawn(part: Part, bits: np.ndarray) -> np.ndarray:
    drawn: np.ndarray
    if part.kind == "uniform":
        drawn = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2**-23) - np.float32(1)
        return drawn
    if part.kind == "categorical":
        drawn = np.floor(_unit(bits) * part.classes)
        return drawn
    # Box and Muller 1958; the argument of the log is above 0
    radius = np.sqrt(-2 * np.log(((bits >> np.uint64(32)).astype(np.float64) + 0.5) * 2**-32))
    drawn = radius * np.cos((bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2 * math.pi * 2**-32))
    return drawn


def _unit(bits: np.ndarray) -> np.ndarray:
    """float64 in [0, 1)."""
    return (bits >> np.uint64(11)).astype(np.float64) * 2**-53


def _mix(value: np.ndarray, key: Any) -> np.ndarray:
    """64 random-looking bits of (value, key): splitmix64's finalizer (Steele, Lea and Flood 2014); sums wrap."""
    with np.errstate(over="ignore"):
        bits = (value + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + np.asarray(key, np.uint64) * np.uint64(
            0xD1342543DE82EF95
        )
        bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = bits ^ (bits >> np.uint64(31))
    return mixed
