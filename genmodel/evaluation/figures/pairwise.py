"""Statistics of pairs of images in feature space, in float64: one pass over the matrix of their squared distances.

Some rows of the matrix at a time, in reused memory: fresh pages would cost more than the sums.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

NEAREST = 5  # neighbours kept per image
PRECISION_K = 3  # as in Kynkaanniemi et al. 2019
DENSITY_K = 5  # as in Naeem et al. 2020
_CELLS = 1 << 19  # of the matrix processed at once: 4 MiB, to fit in cache
_GROUP = 64  # columns whose minimum is found first


class Within(NamedTuple):
    """Of N images among themselves."""

    neighbours: Tensor  # float64 [N, 5], squared distances to the nearest others, in order
    kernel: Tensor  # float64 [N], mean kernel with all others


class Between(NamedTuple):
    """Of M real images and N samples. An image's ball reaches to its k-th nearest other, and holds what is nearer."""

    precise: Tensor  # bool [N], lies in a real image's ball, k = 3
    balls: Tensor  # float64 [N], number of the real images' balls that it lies in, k = 5
    recalled: Tensor  # bool [M], lies in a sample's ball, k = 3
    covered: Tensor  # bool [M], its own ball holds a sample, k = 5
    nearest: Tensor  # float64 [N], squared distance to the nearest real image
    kernel: Tensor  # float64 [N], mean kernel with the real images


def within(features: Tensor) -> Within:
    """Of features [N, d], N > 5."""
    assert len(features) > NEAREST, features.shape
    neighbours, kernel, cubes = [], [], _Cubes(features, features)
    for here, block in _strips(features, features):
        row = torch.arange(len(block))
        values = cubes.of(block, here)
        values[row, row + here.start] = 0
        kernel.append(values.sum(dim=1) / (len(features) - 1))
        block[row, row + here.start] = math.inf
        neighbours.append(_least(block, NEAREST))
    return Within(torch.cat(neighbours), torch.cat(kernel))


def between(real: Tensor, real_neighbours: Tensor, fake: Tensor, fake_neighbours: Tensor) -> Between:
    """Of features [M, d] of real and [N, d] of fake images, with the neighbours of each among themselves."""
    balls, kernel = torch.zeros(2, len(fake), dtype=torch.float64)
    nearest, precise = torch.full((2, len(fake)), math.inf, dtype=torch.float64)
    recalled, covered, cubes = [], [], _Cubes(real, fake)
    reach = fake_neighbours[:, PRECISION_K - 1]
    for here, block in _strips(real, fake):
        precision, density = (real_neighbours[here, k - 1, None] for k in (PRECISION_K, DENSITY_K))
        kernel += cubes.of(block, here).sum(dim=0)
        nearest = torch.minimum(nearest, block.amin(dim=0))
        # a is nearer than b where a - b < 0; a negative minimum means that some are: reductions of bools are slow
        precise = torch.minimum(precise, torch.sub(block, precision, out=cubes.memory(block)).amin(dim=0))
        recalled.append(torch.sub(block, reach, out=cubes.memory(block)).amin(dim=1) < 0)
        covered.append(block.amin(dim=1) < density[:, 0])
        balls += block.lt_(density).sum(dim=0)
    return Between(precise < 0, balls, torch.cat(recalled), torch.cat(covered), nearest, kernel / len(real))


def nearest(features: Tensor, others: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Squared distances (float64) and row numbers of the `k` nearest `others` of each row, in order: [N, k] each."""
    found = [block.topk(k, largest=False) for _, block in _strips(features, others)]
    return torch.cat([part.values for part in found]), torch.cat([part.indices for part in found])


def to_nearest(features: Tensor, others: Tensor) -> Tensor:
    """Squared distance of each row to the nearest of the others: float64 [N]."""
    return torch.cat([block.amin(dim=1) for _, block in _strips(features, others)])


def _strips(features: Tensor, others: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """The matrix of squared distances between the rows of both, some rows at a time, all in the same memory."""
    centre = others.double().mean(dim=0)  # differences of squares are most accurate near 0
    features, others = features.double() - centre, others.double() - centre
    squares, columns = others.square().sum(dim=1), len(others)
    step = min(len(features), max(1, _CELLS // columns))
    memory = torch.empty(step * columns, dtype=torch.float64)
    for start in range(0, len(features), step):
        rows = features[start : start + step]
        block = memory[: len(rows) * columns].view(len(rows), columns)
        torch.addmm(squares, rows, others.T, alpha=-2, out=block)
        yield slice(start, start + len(rows)), block.add_(rows.square().sum(dim=1, keepdim=True)).clamp_(min=0)


class _Cubes:
    """The kernel (x.y / d + 1)^3 (Binkowski et al. 2018, section 4) of pairs, from their squared distances D:
    2 x.y = |x|^2 + |y|^2 - D."""

    def __init__(self, features: Tensor, others: Tensor) -> None:
        self.scale = 1 / (2 * features.shape[1])
        self.rows, self.columns = (rows.double().square().sum(dim=1) * self.scale for rows in (features, others))
        self.cells = torch.empty(0, dtype=torch.float64)

    def of(self, block: Tensor, here: slice) -> Tensor:
        """For the pairs of a block [n, m], whose rows are `here`; in memory that the next call reuses."""
        values = torch.sub(self.columns, block, alpha=self.scale, out=self.memory(block))
        return torch.pow(values.add_(self.rows[here, None] + 1), 3, out=values)

    def memory(self, block: Tensor) -> Tensor:
        """As large as the block."""
        if len(self.cells) < block.numel():
            self.cells = torch.empty(block.numel(), dtype=torch.float64)
        return self.cells[: block.numel()].view(block.shape)


def _least(block: Tensor, k: int) -> Tensor:
    """The k smallest of each row of [n, m], in order: they lie in the k groups of columns with the smallest minima."""
    whole = block.shape[1] // _GROUP * _GROUP
    if whole <= k * _GROUP:
        return block.topk(k, largest=False).values
    groups = block[:, :whole].unflatten(1, (-1, _GROUP))
    chosen = groups.amin(dim=2).topk(k, largest=False).indices
    candidates = groups.gather(1, chosen[:, :, None].expand(-1, -1, _GROUP)).flatten(1)
    return torch.cat([candidates, block[:, whole:]], dim=1).topk(k, largest=False).values
