"""What is computed once from the real images, for every model that is judged against them."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from genmodel.evaluation.figures.distances import moments, square_root
from genmodel.evaluation.figures.pairwise import to_nearest, within


class Real(NamedTuple):
    """For N images of the train split, and M held out (the val split; 0 if none)."""

    features: Tensor  # float32 [N, d]
    mean: Tensor  # float64 [d]
    covariance: Tensor  # float64 [d, d]
    root: Tensor  # float64 [d, d], the covariance's
    kernel: Tensor  # float64 [], mean over all pairs
    neighbours: Tensor  # float64 [N, 5], squared distances to the nearest others
    held_out: Tensor  # float32 [M, d]
    to_held_out: Tensor  # float64 [N], squared distance to the nearest held-out image

    @classmethod
    def of(cls, features: Tensor, held_out: Tensor) -> Self:
        (mean, covariance), own = moments(features), within(features)
        return cls(
            features=features,
            mean=mean,
            covariance=covariance,
            root=square_root(covariance),
            kernel=own.kernel.mean(),
            neighbours=own.neighbours,
            held_out=held_out,
            to_held_out=to_nearest(features, held_out) if len(held_out) else torch.zeros(0, dtype=torch.float64),
        )
