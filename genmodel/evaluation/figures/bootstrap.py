"""How certain a figure is: the bootstrap over its units (samples, or real images), by influence values.

A figure that is a mean of values is resampled directly. Any other, such as a Frechet distance, is replaced by its
linear part: the sum of the influence that each unit has on it (the infinitesimal jackknife: Jaeckel 1972; Efron 1982,
chapter 6). A resample then costs N additions, not a new decomposition, and has none of the upward bias that repeated
samples give a recomputed Frechet distance.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

_RESAMPLES = 1000
_TAIL = 0.025  # on either side of a 95% interval
_AT_ONCE = 50  # resamples whose weights are in memory at once


class Estimate(NamedTuple):
    """A figure, how it changes with the weight of each of its N units (float64 [N], mean 0), and its bounds."""

    value: float
    influence: Tensor
    low: float = -math.inf
    high: float = math.inf


def mean(values: Tensor) -> Estimate:
    """The mean of values [N]; the influences are their deviations, and no resample leaves their range."""
    values = values.double()
    average = values.mean()
    return Estimate(float(average), values - average, low=float(values.min()), high=float(values.max()))


def intervals(estimates: Mapping[str, Estimate], seed: int) -> dict[str, tuple[float, float]]:
    """The 95% interval (low, high) of each figure: percentiles of 1,000 resamples, the same for the same seed.

    Figures with the same number of units share their resamples. NaN where the figure or an influence is not a number.
    """
    found: dict[str, tuple[float, float]] = {}
    for count in sorted({len(estimate.influence) for estimate in estimates.values()}):
        names = [name for name, estimate in estimates.items() if len(estimate.influence) == count]
        shifts = _resample(torch.stack([estimates[name].influence for name in names], dim=1), seed)
        for name, shift in zip(names, shifts.T, strict=True):
            value, _, least, most = estimates[name]
            if not (math.isfinite(value) and torch.isfinite(shift).all()):
                found[name] = (math.nan, math.nan)
                continue
            low, high = torch.quantile(shift, torch.tensor([_TAIL, 1 - _TAIL], dtype=shift.dtype)).tolist()
            found[name] = (max(least, _sum(value, low)), min(most, _sum(value, high)))
    return {name: found[name] for name in estimates}


def _sum(value: float, shift: float) -> float:
    """value + shift; 0 where only the rounding of the two is left."""
    total = value + shift
    return 0.0 if abs(total) <= 1e-12 * abs(value) else total


def _resample(influences: Tensor, seed: int) -> Tensor:
    """Means of `influences` [N, F] over N rows drawn with replacement, for each resample: [_RESAMPLES, F]."""
    count = len(influences)
    rng = torch.Generator().manual_seed(seed)
    ones, means = torch.ones(_AT_ONCE, count, dtype=torch.float64), []
    drawn, weights = torch.empty(_AT_ONCE, count, dtype=torch.int64), torch.empty_like(ones)  # reused
    for _ in range(0, _RESAMPLES, _AT_ONCE):
        torch.randint(count, drawn.shape, generator=rng, out=drawn)
        weights.zero_().scatter_add_(1, drawn, ones)
        means.append(weights @ influences / count)
    return torch.cat(means)
