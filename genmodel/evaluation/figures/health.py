"""Health: whether a training went wrong in a way that figures may not show; pure, a sentence for each finding."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from genmodel.output.counting import counted

# Relative to the real images; healthy models are far from all of these limits.
_CONSTANT, _COLLAPSED = 0.01, 0.1  # variance of a pixel across images, as a share of the real images'
_TWINS = 0.01  # median squared distance to the nearest other sample, as a share of the real images'
_SHIFTED = 0.5  # between the mean levels, in standard deviations of the real images' levels
_GRID, _MORE = 4.0, 0.05  # repeating share of fine detail: times the real images', and more than theirs by this
_NARROW = 32  # levels that real images must span at least
_PERIOD = 4  # pixels: the grids of two upsampling layers, of period 2 and 4
_WON = 0.01  # mean score of fakes, and 1 - mean score of real images, in the last quarter of a training


@dataclass(frozen=True, kw_only=True)
class Levels:
    """How a set of images is distributed over the 256 levels."""

    mean: float
    deviation: float  # of all values
    variance: float  # of a colour value across images, mean over positions
    low: int
    high: int
    grid: float = 0.0  # share of the energy of fine detail that repeats every 4 pixels along both sides
    broken: int = 0  # images that held values that were not numbers before they were rounded


class Meter:
    """Takes images batch by batch, and gives their Levels."""

    def __init__(self) -> None:
        self._count = self._broken = 0
        self._repeating = self._detail = 0.0
        self._sums: list[Tensor] = []  # of values and of their squares at each position
        self._low, self._high = 255, 0

    def add(self, images: Tensor, broken: int = 0) -> None:
        """uint8 [N, H, W, C]."""
        wide = images.cpu().double()
        sums = [wide.sum(dim=0), wide.square().sum(dim=0)]
        self._sums = [old + new for old, new in zip(self._sums, sums, strict=True)] if self._sums else sums
        self._count += len(images)
        self._broken += broken
        repeating, fine = _detail(images.cpu())
        self._repeating, self._detail = self._repeating + repeating, self._detail + fine
        self._low, self._high = min(self._low, int(images.min())), max(self._high, int(images.max()))

    def levels(self) -> Levels:
        means, squares = (part / self._count for part in self._sums)
        mean = float(means.mean())
        return Levels(
            mean=mean,
            deviation=math.sqrt(max(0.0, float(squares.mean()) - mean**2)),
            variance=max(0.0, float((squares - means.square()).mean())),
            low=self._low,
            high=self._high,
            grid=self._repeating / self._detail if self._detail else 0.0,
            broken=self._broken,
        )


def _detail(images: Tensor) -> tuple[float, float]:
    """Energy of the detail of images [N, H, W, C] that repeats every 4 pixels, and of all their detail, summed over N.

    Detail is the mean over channels less its mean over 4 x 4 pixels, which removes nothing that repeats. Transposed
    convolutions leave such grids (Odena et al. 2016, Deconvolution and Checkerboard Artifacts).
    """
    grey = images.float().mean(dim=3)[:, None]
    smooth = avg_pool2d(grey, _PERIOD, stride=1)
    start, (down, along) = _PERIOD // 2, smooth.shape[-2:]
    fine = grey[..., start : start + down, start : start + along] - smooth
    whole = fine[..., : down // _PERIOD * _PERIOD, : along // _PERIOD * _PERIOD]
    cell = whole.unflatten(2, (-1, _PERIOD)).unflatten(4, (-1, _PERIOD)).mean(dim=(2, 4))
    repeating, all_of_it = (float(part.square().flatten(1).mean(dim=1).double().sum()) for part in (cell, whole))
    return repeating, all_of_it


def findings(real: Levels, samples: Levels, apart: float, history: Sequence[Mapping[str, float]] = ()) -> list[str]:
    """What is wrong with a model, a sentence each; empty for a healthy one.

    `apart` is the median squared distance in feature space from a sample to its nearest other, divided by that of the
    real images; `history` is the rows of a training's record (losses, and a GAN's mean scores), oldest first.
    """
    found = []
    if real.high - real.low < _NARROW:
        found.append(
            f"The real images use only the levels {real.low} to {real.high} of 0 to 255: prepare them from images"
            " whose values were not scaled down."
        )
    if samples.broken:
        found.append(f"Non-finite output: NaN or infinity in {counted(samples.broken, 'sample')}.")
    share = samples.variance / real.variance if real.variance else math.inf
    if share < _CONSTANT:
        found.append(f"Constant output: samples vary {share:.2%} as much as real images, whatever the code.")
    elif share < _COLLAPSED:
        found.append(f"Collapsed variance: samples vary {share:.2%} as much as real images.")
    elif apart < _TWINS:
        found.append(
            f"Collapsed variance: the median sample has a near-duplicate, at {math.sqrt(apart):.1%} of real "
            "images' distance."
        )
    shift = abs(samples.mean - real.mean)
    if shift > _SHIFTED * real.deviation:
        found.append(
            f"Wrong levels: the samples' mean is {samples.mean:.0f} and the real images' {real.mean:.0f}:"
            " trained too briefly, or on images of another range."
        )
    if samples.grid > max(_GRID * real.grid, real.grid + _MORE):
        found.append(
            f"Checkerboard noise: {samples.grid:.0%} of the samples' fine detail is a grid of {_PERIOD} pixels or less,"
            f" and {real.grid:.1%} of the real images'."
        )
    return found + _of_history(history)


def _of_history(history: Sequence[Mapping[str, float]]) -> list[str]:
    found = [
        f"Diverged: {name} was {row[name]} after {row['images_seen']:.0f} images."
        for row in history[-1:]
        for name in row
        if not math.isfinite(row[name])
    ]
    last = history[-max(1, len(history) // 4) :]
    if last and all({"score/real", "score/fake"} <= row.keys() for row in last):
        real, fake = (float(torch.tensor([row[name] for row in last]).mean()) for name in ("score/real", "score/fake"))
        if fake < _WON and 1 - real < _WON:
            found.append(
                f"The discriminator won: it scores real images {real:.4f} and samples {fake:.4f}"
                " at the end, and teaches the generator nothing."
            )
    return found
