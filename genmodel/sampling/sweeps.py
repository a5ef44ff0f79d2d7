"""One number of a model's noise swept over its range while all others stay: what it means, and how evenly."""

from typing import NamedTuple

import torch
from torch import Tensor

from genmodel.models.noise import Part, Space

_REACH = 2.0  # standard deviations of a normal number, to either side: 95% of what is drawn


class Code(NamedTuple):
    """A number of a space's noise: its column, and the part that it belongs to."""

    column: int
    part: Part

    def values(self, frames: int) -> Tensor:
        """Its range, from end to end: every category, else `frames` numbers at equal distances; float32."""
        if self.part.kind == "categorical":
            return torch.arange(self.part.classes, dtype=torch.float32)
        reach = _REACH if self.part.kind == "normal" else 1.0
        return torch.linspace(-reach, reach, frames)

    def sweep(self, codes: Tensor, frames: int) -> Tensor:
        """Rows of codes [N, ...] (as requests.codes makes them), each with this number swept: [N, F, ...]."""
        values = self.values(frames)
        swept = codes[:, None].repeat(1, len(values), 1)
        swept[:, :, self.column] = values
        return swept

    def steps(self, images: Tensor) -> Tensor:
        """How much uint8 images [N, F, H, W, C] of a sweep differ from one value to the next, float64 [steps].

        In levels of 0 to 255, root mean square over an image, mean over the N sweeps. Categories have no order: each
        is compared with each other one.
        """
        levels = images.flatten(2).double()
        count = levels.shape[1]
        ordered = self.part.kind != "categorical"
        pairs = [(one, one + 1) for one in range(count - 1)] if ordered else torch.combinations(torch.arange(count))
        apart = [(levels[:, one] - levels[:, other]).square().mean(dim=1).sqrt().mean() for one, other in pairs]
        return torch.stack(apart)


class Meaning(NamedTuple):
    """What a number of the noise does to the image."""

    change: float  # mean of its steps, in levels of 0 to 255; 0: nothing
    evenness: float  # its smallest step divided by the mean one; 1: each value changes the image alike, 0: one does not

    @classmethod
    def of(cls, steps: Tensor) -> "Meaning":
        change = float(steps.mean())
        return cls(change, float(steps.min()) / change if change else 0.0)


def codes_of(space: Space) -> list[Code]:
    """The numbers of a space's noise, in the order of its columns."""
    parts = [part for part in space.parts for _ in range(part.width)]
    return [Code(column, part) for column, part in enumerate(parts)]
