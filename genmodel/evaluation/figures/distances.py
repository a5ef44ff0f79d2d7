"""Distances between feature sets: pure functions in float64, with no networks and no files.

They return NaN, and raise nothing, where features are not numbers.
"""

import hashlib
import math
from typing import NamedTuple

import torch
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate

_NOTHING = 1e-13  # eigenvalues below this share of the largest are rounding
_PARTS = 3  # the smallest sets of the extrapolation hold a third of the samples


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


def square_root(covariance: Tensor) -> Tensor:
    """The symmetric root of a positive semidefinite matrix; negative eigenvalues, from rounding, count as 0."""
    if not torch.isfinite(covariance).all():
        return torch.full_like(covariance, math.nan)
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root


def frechet_distance(mean: Tensor, root: Tensor, features: Tensor) -> Estimate:
    """Squared Frechet distance |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)) (Heusel et al. 2017, eq. 6).

    Between the Gaussian of `mean` [d] and `root` [d, d] = A^(1/2), and the moments of `features` [N, d]. With the
    centred features X, tr (A B)^(1/2) is the sum of the singular values of Y = X A^(1/2) / (N - 1)^(1/2): exact for
    singular covariances too, where a matrix root of A B loses half of the digits.
    The influence of x is 2 (m_b - m_a).(x - m_b) + tr((1 - T)((x - m_b)(x - m_b)' - B)), T the optimal map from B to A.
    """
    assert features.ndim == 2 and len(features) >= 2, features.shape
    count = len(features)
    wide = features.double()
    if not all(torch.isfinite(part).all() for part in (mean, root, wide)):
        return Estimate(math.nan, torch.full((count,), math.nan, dtype=torch.float64))
    own_mean = wide.mean(dim=0)
    centred, shift = wide - own_mean, own_mean - mean
    across = centred @ root / math.sqrt(count - 1)
    squares = centred.square().sum(dim=1)
    spread = root.square().sum() + squares.sum() / (count - 1) - 2 * torch.linalg.svdvals(across).sum()
    influence = 2 * centred @ shift + squares - _carried(across)
    return Estimate(max(0.0, float(shift.square().sum() + spread)), influence - influence.mean(), low=0)


def _carried(across: Tensor) -> Tensor:
    """(x_i - m_b)' T (x_i - m_b) of each row, from Y = P S W': (N - 1) sum_j P_ij^2 S_j, where P = Y W / S.

    Uses the eigenvectors of Y' Y, which cost a fraction of a singular value decomposition and are accurate enough here.
    """
    squares, vectors = torch.linalg.eigh(across.T @ across)
    kept = squares > squares[-1] * _NOTHING
    carried: Tensor = (len(across) - 1) * ((across @ vectors[:, kept]).square() @ squares[kept].rsqrt())
    return carried


def frechet_at_infinity(mean: Tensor, root: Tensor, features: Tensor, whole: Estimate) -> Estimate:
    """The Frechet distance that infinitely many samples would have (Chong & Forsyth 2020, section 4).

    `whole` is the distance of all N `features`. The bias of a distance falls as 1/N: the line through the distances at
    N, N/2 and N/3 meets 1/N = 0 there. The paper uses random subsets; here each is the mean over the 2 or 3 parts that
    the samples are split into, so that every sample counts equally at every size. The features' bytes decide the parts,
    not their order. Linear in 1/N only if the parts are larger than d. The real images' own bias remains.
    """
    rows = _shuffled(features)
    value, influence = 0.0, torch.zeros(len(features), dtype=torch.float64)
    for parts, weight in zip(range(1, _PARTS + 1), _intercept(_PARTS), strict=True):
        for part in range(parts):
            chosen = rows[part::parts]
            found = whole if parts == 1 else frechet_distance(mean, root, features[chosen])
            value += weight * found.value / parts
            own = whole.influence[rows] if parts == 1 else found.influence
            influence[chosen] += weight * own * (len(features) / len(chosen) / parts)
    return Estimate(value, influence)


def _intercept(sizes: int) -> list[float]:
    """The weights of values at x = 1, 2, ..., `sizes` in the intercept of their least-squares line."""
    places = torch.arange(1, sizes + 1, dtype=torch.float64)
    centred = places - places.mean()
    weights: list[float] = (1 / sizes - places.mean() * centred / centred.square().sum()).tolist()
    return weights


def _shuffled(features: Tensor) -> Tensor:
    """The rows' numbers in a pseudo-random order that depends only on their contents."""
    digests = [hashlib.sha256(row.tobytes()).digest() for row in features.double().numpy()]
    return torch.tensor(sorted(range(len(digests)), key=digests.__getitem__))


def kernel_distance(within_real: float, between: Tensor, within: Tensor) -> Estimate:
    """Unbiased squared maximum mean discrepancy of M real images and N samples, from means of the kernel over pairs.

    The means are over pairs of real images, of each sample with the real images [N], and of each with the other samples
    [N]: see pairwise. This is the U-statistic over all pairs with the kernel (x.y / d + 1)^3 (Binkowski et al. 2018,
    eqs. 4 and 5); their KID averages it over random subsets, with the same expectation and more noise. It may be below
    0. Its interval comes from the samples' influences.
    """
    influence = 2 * (within - between)
    value = within_real + within.mean() - 2 * between.mean()
    return Estimate(float(value), influence - influence.mean())
