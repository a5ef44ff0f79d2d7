"""Figures of feature sets: pure functions in float64, with no networks and no files.

They say NaN, and raise nothing, where features or probabilities are no numbers.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

_ROWS = 1024  # of a kernel matrix held at once


class Moments(NamedTuple):
    """mean float64 [d] and covariance float64 [d, d] (divided by N - 1)."""

    mean: Tensor
    covariance: Tensor


def moments(features: Tensor) -> Moments:
    """Mean and covariance of features [N, d], N >= 2."""
    assert features.ndim == 2 and len(features) >= 2, features.shape
    wide = features.double()
    mean = wide.mean(dim=0)
    centred = wide - mean
    return Moments(mean, centred.T @ centred / (len(wide) - 1))


def frechet_distance(a: Moments, b: Moments) -> float:
    """Squared Frechet distance of two Gaussians, |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Heusel et al. 2017, eq. 6).

    tr (A B)^(1/2) is the sum of the singular values of A^(1/2) B^(1/2): exact for singular covariances too, where a
    matrix square root of A B loses half of the digits.
    """
    if not all(torch.isfinite(part).all() for part in (*a, *b)):
        return math.nan
    overlap = torch.linalg.svdvals(_square_root(a.covariance) @ _square_root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return max(0.0, float((a.mean - b.mean).square().sum() + spread))


def _square_root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semidefinite matrix; rounding's negative eigenvalues count as 0."""
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of features [M, d] and [N, d], M and N >= 2.

    The U-statistic over all pairs with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018, eqs. 4 and 5); their KID
    averages it over random subsets, which has the same expectation and more noise. It may fall below 0.
    """
    assert a.ndim == b.ndim == 2 and a.shape[1] == b.shape[1] and min(len(a), len(b)) >= 2, (a.shape, b.shape)
    a, b = a.double(), b.double()
    return _mean_kernel(a, a, same=True) + _mean_kernel(b, b, same=True) - 2 * _mean_kernel(a, b, same=False)


def _mean_kernel(a: Tensor, b: Tensor, *, same: bool) -> float:
    """Mean of k(x, y) over all pairs; over those of different rows if both sets are the `same`."""
    total = sum(float(_kernel(rows @ b.T, a.shape[1]).sum()) for rows in a.split(_ROWS))
    if not same:
        return total / (len(a) * len(b))
    diagonal = float(_kernel(a.square().sum(dim=1), a.shape[1]).sum())
    return (total - diagonal) / (len(a) * (len(a) - 1))


def _kernel(products: Tensor, dim: int) -> Tensor:
    return (products / dim + 1) ** 3


def inception_score(logits: Tensor, splits: int = 10) -> float:
    """exp of the mean KL(p(y|x) || p(y)) of logits [N, K]: between 1 and K (Salimans et al. 2016, section 4).

    As there, the mean over `splits` parts of N / splits; small parts lower it, so compare at equal N only. A part is
    every splits-th row: images in the order of their classes give whole parts too.
    """
    assert logits.ndim == 2 and len(logits) >= splits, logits.shape
    scores = []
    for start in range(splits):
        log_p = logits[start::splits].double().log_softmax(dim=1)
        log_marginal = log_p.logsumexp(dim=0) - math.log(len(log_p))
        divergence = (log_p.exp() * (log_p - log_marginal)).sum(dim=1).mean()
        scores.append(float(divergence.exp()))
    return sum(scores) / splits
