"""A setting that changes during training: a closed form of the images seen, so that a resume needs no state."""

import math
from dataclasses import dataclass
from typing import Literal

from genmodel.errors import ConfigError


@dataclass(frozen=True)
class Schedule:
    """From `start` at image 0 to `end` after `over` images, constant from then on; without an `end` always `start`.

    "cosine" starts and ends flat (Loshchilov and Hutter 2017, eq. 5; R3GAN's learning rate, beta2, gamma and EMA).
    ConfigError for an `end` without `over`, or the reverse.
    """

    start: float
    end: float | None = None
    over: int = 0  # images
    shape: Literal["cosine", "linear"] = "cosine"

    def __post_init__(self) -> None:
        if self.over < 0 or (self.end is None) != (self.over == 0):
            raise ConfigError("a schedule needs both end and over (the images that it takes, at least 1), or neither")

    def at(self, images_seen: int) -> float:
        """The value after `images_seen` images, between `start` and `end`; both are reached exactly."""
        if self.end is None:
            return self.start
        share = min(1.0, images_seen / self.over)
        if self.shape == "cosine":
            share = 0.5 * (1 - math.cos(math.pi * share))
        low, high = sorted((self.start, self.end))
        return min(max((1 - share) * self.start + share * self.end, low), high)  # rounding can overshoot slightly


Scheduled = float | Schedule


def value_at(setting: Scheduled, images_seen: int) -> float:
    """A setting's value after `images_seen` images."""
    return setting.at(images_seen) if isinstance(setting, Schedule) else setting
