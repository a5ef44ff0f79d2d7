"""What is computed once from the real images, for every model that is judged against them."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from genmodel.evaluation.figures.distances import moments, square_root
from genmodel.evaluation.figures.pairwise import to_nearest, within

_LEVEL = 2 / 255  # one level of 0 to 255: what varies less among real images counts as if it varied so much


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
    wavelet_mean: Tensor  # float64 [e], of the features that need no labels; [0] if there are none
    wavelet_scale: Tensor  # float64 [e], their standard deviations
    wavelet_root: Tensor  # float64 [e, e], the root of their correlations

    @classmethod
    def of(cls, features: Tensor, held_out: Tensor, wavelets: Tensor | None = None) -> Self:
        """From features [N, d] and [M, d], and wavelets [N, e] of the former."""
        (mean, covariance), own = moments(features), within(features)
        plain = torch.zeros(len(features), 0) if wavelets is None else wavelets.double()
        wavelet_mean, own_covariance = moments(plain)
        scale = own_covariance.diagonal().sqrt().clamp(min=_LEVEL)
        return cls(
            features=features,
            mean=mean,
            covariance=covariance,
            root=square_root(covariance),
            kernel=own.kernel.mean(),
            neighbours=own.neighbours,
            held_out=held_out,
            to_held_out=to_nearest(features, held_out) if len(held_out) else torch.zeros(0, dtype=torch.float64),
            wavelet_mean=wavelet_mean,
            wavelet_scale=scale,
            wavelet_root=square_root(own_covariance / scale / scale[:, None]),
        )
