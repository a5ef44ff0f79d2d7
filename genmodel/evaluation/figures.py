"""All figures that features give, of one set of samples against one set of real images; pure, with no files."""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from genmodel.evaluation.bootstrap import Estimate, mean
from genmodel.evaluation.classes import inception_score
from genmodel.evaluation.distances import (
    frechet_at_infinity,
    frechet_distance,
    kernel_distance,
    moments,
    square_root,
)
from genmodel.evaluation.features import Features
from genmodel.evaluation.manifold import manifold
from genmodel.evaluation.memorisation import Memorisation, memorisation
from genmodel.evaluation.names import figure_names
from genmodel.evaluation.pairwise import between, to_nearest, within


class Real(NamedTuple):
    """What is worked out once of the real images: N of the train split, and M held out (the val split; 0 if none)."""

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


class Judged(NamedTuple):
    """Figures by name, in the order of the table; memorisation only where some images were held out."""

    estimates: dict[str, Estimate]
    memorisation: Memorisation | None
    samples_apart: float  # median squared distance of a sample to its nearest other over that of the real images


def judge(real: Real, samples: Features, pairs: Tensor, extractor: str, searched: float = 1.0) -> Judged:
    """The figures of samples; `pairs` are similarities of pairs of them, `searched` as in memorisation()."""
    names, values = figure_names(extractor), samples.values
    frechet = frechet_distance(real.mean, real.root, values)
    own = within(values)
    across = between(real.features, real.neighbours, values, own.neighbours)
    estimates = {
        names.frechet: frechet,
        names.frechet_at_infinity: frechet_at_infinity(real.mean, real.root, values, frechet),
        names.kernel: kernel_distance(float(real.kernel), across.kernel, own.kernel),
        **({} if samples.logits is None else {names.inception_score: inception_score(samples.logits)}),
        **manifold(across)._asdict(),
        "pair_ms_ssim": mean(pairs),
    }
    copies = None
    if len(real.held_out):
        ours, theirs = (across.nearest, to_nearest(values, real.held_out)), (real.neighbours[:, 0], real.to_held_out)
        copies = memorisation(theirs, ours, searched)
        estimates["copied"] = copies.copied
    apart = float(own.neighbours[:, 0].median() / real.neighbours[:, 0].median())
    return Judged(estimates, copies, apart)
