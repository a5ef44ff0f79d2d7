"""Figures of neighbourhoods in feature space: pure functions in float64, a block of the distance matrix at a time."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from genmodel.evaluation.bootstrap import Estimate, mean

NEAREST = 5  # neighbours that are kept of each image
_PRECISION_K = 3  # as in Kynkaanniemi et al. 2019
_DENSITY_K = 5  # as in Naeem et al. 2020
_CELLS = 1 << 21  # of a matrix held at once: 16 MiB


def neighbours(features: Tensor) -> Tensor:
    """Squared distances of each row of features [N, d] to its 5 nearest others, in order: float64 [N, 5], N > 5."""
    assert len(features) > NEAREST, features.shape
    found = []
    for start, block in _blocks(features, features):
        rows = torch.arange(len(block))
        block[rows, rows + start] = math.inf
        found.append(block.topk(NEAREST, largest=False).values)
    return torch.cat(found)


def nearest(features: Tensor, others: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Squared distances (float64) and row numbers of the `k` nearest `others` of each row, in order: [N, k] each."""
    found = [block.topk(k, largest=False) for _, block in _blocks(features, others)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


class Manifold(NamedTuple):
    """precision and density are means over the samples, recall and coverage over the real images."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def manifold(real: Tensor, real_neighbours: Tensor, fake: Tensor, fake_neighbours: Tensor) -> Manifold:
    """Precision and recall (Kynkaanniemi et al. 2019, eqs. 1 to 3, k = 3), density and coverage (Naeem et al. 2020,
    eqs. 4 and 5, k = 5) of features [M, d] of real and [N, d] of fake images, with the `neighbours` of each.

    A ball around an image reaches to its k-th nearest other and holds what is strictly nearer. Precision is the share
    of the samples inside a real image's ball, density their mean number of such balls over k, recall the share of the
    real images inside a sample's ball, and coverage the share of the real images whose ball holds a sample.
    """
    inside = torch.zeros(len(fake), dtype=torch.bool)
    balls = torch.zeros(len(fake), dtype=torch.float64)
    reached, held = [], []
    for start, block in _blocks(real, fake):
        radii = real_neighbours[start : start + len(block)]
        inside |= (block < radii[:, _PRECISION_K - 1, None]).any(dim=0)
        within = block < radii[:, _DENSITY_K - 1, None]
        balls += within.sum(dim=0)
        held.append(within.any(dim=1))
        reached.append((block < fake_neighbours[:, _PRECISION_K - 1]).any(dim=1))
    unknown = math.nan if not (torch.isfinite(real).all() and torch.isfinite(fake).all()) else 0.0
    values = (inside, torch.cat(reached), balls / _DENSITY_K, torch.cat(held))
    return Manifold(*(mean(value.double() + unknown) for value in values))


def rows_at_once(columns: int) -> int:
    """How many rows of so many columns are worked on together: small enough to stay near the processor."""
    return max(1, _CELLS // columns)


def _blocks(features: Tensor, others: Tensor) -> Iterator[tuple[int, Tensor]]:
    """The matrix of squared distances between the rows of both, some rows at a time, each with its first row."""
    centre = others.double().mean(dim=0)  # near 0 a difference of squares loses the least
    features, others = features.double() - centre, others.double() - centre
    squares = others.square().sum(dim=1)
    step = rows_at_once(len(others))
    for start in range(0, len(features), step):
        rows = features[start : start + step]
        block = torch.addmm(squares, rows, others.T, alpha=-2)
        yield start, block.add_(rows.square().sum(dim=1, keepdim=True)).clamp_(min=0)
