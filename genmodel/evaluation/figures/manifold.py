"""Whether samples lie where the real images lie, and vice versa."""

import math
from typing import NamedTuple

import torch

from genmodel.evaluation.figures.bootstrap import Estimate, mean
from genmodel.evaluation.figures.pairwise import DENSITY_K, Between


class Manifold(NamedTuple):
    """precision and density are means over the samples, recall and coverage over the real images."""

    precision: Estimate
    recall: Estimate
    density: Estimate
    coverage: Estimate


def manifold(pairs: Between) -> Manifold:
    """Precision and recall (Kynkaanniemi et al. 2019, eqs. 1 to 3, k = 3), density and coverage (Naeem et al. 2020,
    eqs. 4 and 5, k = 5).

    Precision is the share of the samples inside a real image's ball, density their mean number of such balls over k,
    recall the share of the real images inside a sample's ball, and coverage the share of the real images whose ball
    holds a sample. NaN where a feature of either is not a number.
    """
    values = (pairs.precise, pairs.recalled, pairs.balls / DENSITY_K, pairs.covered)
    unknown = 0.0 if torch.isfinite(pairs.kernel).all() else math.nan  # the kernel depends on all features of both
    return Manifold(*(mean(value.double() + unknown) for value in values))
