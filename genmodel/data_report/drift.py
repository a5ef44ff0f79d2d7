"""How far the new images are from the old in colour and in features, with 95% intervals and what chance would give.

A difference of two groups is seen as a figure of all their images together, so that one bootstrap over these
(evaluation/figures/bootstrap.py) gives its interval. A distance is above 0 even between two random halves of the same
images: what chance gives comes from permutations, in which old and new are drawn anew from all of them.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate, intervals
from genmodel.evaluation.figures.distances import frechet_distance, moments, square_root

CHANNELS = {1: ("grey",), 3: ("red", "green", "blue"), 4: ("red", "green", "blue", "alpha")}
BINS = 32  # of a histogram of levels
_SEED = 0
_SIDE = 32  # pixels: larger images are thinned out to about this for their colours
_DIM = 64  # dimensions that features are reduced to
_COLOUR_PERMUTATIONS, _PERMUTATIONS = 200, 50
_RARE = 0.95  # what chance gives: no more than this in that share of the permutations


class Levels(NamedTuple):
    """Per image, for its C channels: mean and mean square of the levels [N, C], shares in bins [N, C, BINS]."""

    means: Tensor
    squares: Tensor
    shares: Tensor


def levels(images: Tensor) -> Levels:
    """Of uint8 [N, H, W, C] images, in float64."""
    step = max(1, min(images.shape[1:3]) // _SIDE)
    thin = images[:, ::step, ::step].flatten(1, 2).transpose(1, 2)  # [N, C, P]
    flat = thin.flatten(0, 1).int()
    flat += 256 * torch.arange(len(flat), dtype=torch.int32)[:, None]
    counts = torch.bincount(flat.flatten(), minlength=256 * len(flat)).view(*thin.shape[:2], 256)
    shares, level = counts.double() / thin.shape[-1], torch.arange(256.0, dtype=torch.float64)
    return Levels(shares @ level, shares @ level.square(), shares.unflatten(2, (BINS, -1)).sum(-1))


def colour_drift(old: Tensor, new: Tensor) -> list[dict[str, Any]]:
    """A row per channel: mean and deviation of the levels (0 to 255) old, new and their difference with its interval;
    the earth mover's distance of the histograms, in levels, with interval and chance; both histograms.

    `old` and `new` are uint8 [N, H, W, C], N >= 2.
    """
    a, b = levels(old), levels(new)
    names = CHANNELS[old.shape[-1]]
    estimates: dict[str, Estimate] = {}
    for place, name in enumerate(names):
        for what, figure in (("mean", _mean), ("deviation", _deviation)):
            estimates[f"{what} {name}"] = _difference(figure(a, place), figure(b, place))
        estimates[f"distance {name}"] = _distance(a.shares[:, place], b.shares[:, place])
    ends = intervals(estimates, _SEED)
    chance = torch.quantile(_moved(torch.cat([a.shares, b.shares]), len(a.shares)), _RARE, dim=0).tolist()

    def told(what: str, name: str) -> dict[str, float]:
        low, high = ends[f"{what} {name}"]
        return {"difference": estimates[f"{what} {name}"].value, "low": low, "high": high}

    return [
        {
            "channel": name,
            "mean": {"old": _mean(a, place).value, "new": _mean(b, place).value, **told("mean", name)},
            "deviation": {
                "old": _deviation(a, place).value,
                "new": _deviation(b, place).value,
                **told("deviation", name),
            },
            "distance": {**told("distance", name), "chance": chance[place]},
            "histogram": {side: found.shares[:, place].mean(0).tolist() for side, found in (("old", a), ("new", b))},
        }
        for place, name in enumerate(names)
    ]


def _mean(found: Levels, channel: int) -> Estimate:
    means = found.means[:, channel]
    mean = means.mean()
    return Estimate(float(mean), means - mean)


def _deviation(found: Levels, channel: int) -> Estimate:
    """Of a channel's levels over all pixels, with the influence of each image."""
    means, squares = found.means[:, channel], found.squares[:, channel]
    mean, square = means.mean(), squares.mean()
    deviation = float((square - mean**2).clamp(min=0).sqrt())
    influence = squares - square - 2 * mean * (means - mean)
    return Estimate(deviation, influence / (2 * deviation or math.inf))


def _difference(old: Estimate, new: Estimate) -> Estimate:
    return _pooled(new.value - old.value, -old.influence, new.influence)


def _pooled(value: float, old: Tensor, new: Tensor, low: float = -math.inf) -> Estimate:
    """A figure of two groups as one of all their units: a resample of all is, to first order, one of each."""
    count = len(old) + len(new)
    return Estimate(value, torch.cat([old * (count / len(old)), new * (count / len(new))]), low=low)


def _distance(old: Tensor, new: Tensor) -> Estimate:
    """The earth mover's distance, in levels, of the mean histograms of [N, BINS] shares."""
    old, new = old.cumsum(1), new.cumsum(1)
    gap = new.mean(0) - old.mean(0)
    width, side = 256 / BINS, gap.sign()
    less, more = (width * ((each - each.mean(0)) @ side) for each in (old, new))
    return _pooled(float(gap.abs().sum() * width), -less, more, low=0)


def _moved(shares: Tensor, count: int) -> Tensor:
    """The distances of [N, C, BINS] where any `count` of the images are the old ones: [permutations, C]."""
    total = len(shares)
    rng = torch.Generator().manual_seed(_SEED)
    weights = torch.full((_COLOUR_PERMUTATIONS, total), 1 / (total - count), dtype=torch.float64)
    for row in weights:
        row[torch.randperm(total, generator=rng)[:count]] = -1 / count
    gaps = (weights @ shares.cumsum(2).flatten(1)).view(_COLOUR_PERMUTATIONS, -1, BINS)
    return gaps.abs().sum(2) * (256 / BINS)


def feature_drift(old: Tensor, new: Tensor) -> dict[str, float] | None:
    """How far the features [N, d] of the new images are from the old: their Frechet distance, less what chance gives
    on average, as a share of the old features' variance. 0: not at all; 1: the old images differ as much among
    themselves. With its interval, and what chance gives at most. None where the old ones do not differ.
    """
    spread = float(old.double().var(dim=0).sum())
    every = _reduced(torch.cat([old, new]).double())
    old, new = every[: len(old)], every[len(old) :]
    if not spread > 0 or not torch.isfinite(every).all():
        return None
    there, back = _frechet(old, new), _frechet(new, old)
    rng = torch.Generator().manual_seed(_SEED)
    drawn = [every[torch.randperm(len(every), generator=rng)] for _ in range(_PERMUTATIONS)]
    by_chance = torch.tensor([_frechet(each[: len(old)], each[len(old) :]).value for each in drawn])
    low, high = intervals({"": _pooled(there.value, back.influence, there.influence)}, _SEED)[""]
    usual = float(by_chance.mean())
    told = {"drift": there.value, "low": low, "high": high, "chance": float(torch.quantile(by_chance, _RARE))}
    return {name: max(0.0, value - usual) / spread for name, value in told.items()}


def _frechet(real: Tensor, features: Tensor) -> Estimate:
    mean, covariance = moments(real)
    return frechet_distance(mean, square_root(covariance), features)


def _reduced(features: Tensor) -> Tensor:
    """The principal components of features [N, d] that vary most, at most 64 of them: many more would be mostly noise
    at this number of images."""
    if features.shape[1] <= _DIM or not torch.isfinite(features).all():
        return features
    mean, covariance = moments(features)
    directions: Tensor = torch.linalg.eigh(covariance)[1][:, -_DIM:]
    return (features - mean) @ directions
