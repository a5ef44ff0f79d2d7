"""How well groups that were found without labels agree with classes: unsupervised clustering accuracy.

Each group stands for one class and each class for one group at most, in the way that puts the most images right (Xie et
al. 2016, eq. 10). Labels are used for nothing else.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate, mean


def cluster_accuracy(told: Tensor) -> Estimate:
    """The share of images in the group that stands for their class, from groups and class of each: int64 [N, G + 1].

    Of G ways of sorting into groups, the one that agrees best. The matching counts as known, so the interval leaves out
    how it would change with the images.
    """
    ways, labels = told[:, :-1], told[:, -1]
    right = torch.stack([_right(groups, labels) for groups in ways.T], dim=1)
    return mean(right[:, right.sum(dim=0).argmax()].double())


def _right(groups: Tensor, labels: Tensor) -> Tensor:
    """Whether each image is in the group that stands for its class, bool [N]; never for the class -1."""
    known = labels >= 0
    together = np.zeros((int(groups.max()) + 1, int(labels.max()) + 1), np.int64)
    np.add.at(together, (groups[known].numpy(), labels[known].numpy()), 1)
    stands_for = torch.full((len(together),), -1)
    for group, label in best_pairs(together):
        stands_for[group] = label
    return known & (stands_for[groups] == labels)


def best_pairs(gains: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Pairs of a row and a column, each in one pair at most, with the largest sum of `gains` [rows, columns].

    Kuhn's Hungarian method by shortest augmenting paths (Jonker and Volgenant 1987): rows² times columns.
    """
    if len(gains) > len(gains.T):
        return sorted((row, column) for column, row in best_pairs(gains.T))
    rows, columns = gains.shape
    row_price, price = np.zeros(rows + 1), np.zeros(columns + 1)  # index 0 stands for "none"
    row_of, before = np.zeros(columns + 1, np.int64), np.zeros(columns + 1, np.int64)
    for row in range(1, rows + 1):
        row_of[0], column = row, 0
        shortest, done = np.full(columns + 1, np.inf), np.zeros(columns + 1, bool)
        while row_of[column] or not column:
            done[column], here = True, row_of[column]
            lengths = np.append(np.inf, -gains[here - 1] - row_price[here] - price[1:])
            shorter = ~done & (lengths < shortest)
            shortest[shorter], before[shorter] = lengths[shorter], column
            column = int(np.where(done, np.inf, shortest).argmin())
            step = shortest[column]
            row_price[row_of[done]] += step
            price[done] -= step
            shortest[~done] -= step
        while column:
            row_of[column] = row_of[before[column]]
            column = before[column]
    return sorted((int(row) - 1, column - 1) for column, row in enumerate(row_of) if column and row)
