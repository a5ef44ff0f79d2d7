"""How an image follows its noise: walks through the noise, seen by an extractor's features."""

import torch
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate


def measure(features: Tensor) -> Tensor:
    """Of walks [W, F, dim]: the length of the way, the straight line between its ends, and its longest step.

    float64 [W, 3], Euclidean distances of features.
    """
    walked = features.double()
    steps = (walked[:, 1:] - walked[:, :-1]).norm(dim=2)
    straight = (walked[:, -1] - walked[:, 0]).norm(dim=1)
    return torch.stack([steps.sum(dim=1), straight, steps.amax(dim=1)], dim=1)


def detour(walks: Tensor) -> Estimate:
    """The length of the ways over that of the straight lines, of `measure`'s [W, 3]: at least 1.

    A ratio of sums: the ratio of a single walk has no bound where its ends happen to look alike.
    """
    return _ratio(walks[:, 0], walks[:, 1])


def jump(walks: Tensor) -> Estimate:
    """The longest step's share of the way, over all walks: 1 where an image stays and changes all at once."""
    return _ratio(walks[:, 2], walks[:, 0])


def _ratio(above: Tensor, below: Tensor) -> Estimate:
    """The ratio of two means, with its influences (the delta method); NaN if nothing is below."""
    value = above.mean() / below.mean()
    return Estimate(float(value), (above - value * below) / below.mean())
