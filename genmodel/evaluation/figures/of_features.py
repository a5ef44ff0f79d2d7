"""The figures computed from features, of a set of samples against a set of real images; pure, with no files.

Each is a function named in the table (table.py); what several need is computed once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from genmodel.evaluation import table
from genmodel.evaluation.extractors.features import Features
from genmodel.evaluation.figures import distances
from genmodel.evaluation.figures.bootstrap import Estimate, mean
from genmodel.evaluation.figures.inception_score import inception_score
from genmodel.evaluation.figures.latent import walks
from genmodel.evaluation.figures.manifold import Manifold, manifold
from genmodel.evaluation.figures.memorisation import Copies, copies
from genmodel.evaluation.figures.pairwise import Between, Within, between, to_nearest, within
from genmodel.evaluation.figures.real import Real


@dataclass(frozen=True)
class Compared:
    """Samples against real images."""

    real: Real
    samples: Features
    pairs: Tensor  # float64 [P], similarities of pairs of samples
    asked: Tensor | None = None  # int64 [N], the classes asked for, numbered as in the logits; None if they are not
    walks: Tensor | None = None  # float64 [W, 3], of walks.measure; None for noise without meaning
    searched: float = 1.0  # share of the training images that are in `real`
    wavelets: Tensor | None = None  # float32 [N, e], of the samples; None if they are not known

    @cached_property
    def within(self) -> Within:
        return within(self.samples.values)

    @cached_property
    def between(self) -> Between:
        return between(self.real.features, self.real.neighbours, self.samples.values, self.within.neighbours)

    @cached_property
    def frechet(self) -> Estimate:
        return distances.frechet_distance(self.real.mean, self.real.root, self.samples.values)

    @cached_property
    def manifold(self) -> Manifold:
        return manifold(self.between)

    @cached_property
    def copies(self) -> Copies | None:
        """None if nothing was held out to compare with."""
        if not len(self.real.held_out):
            return None
        ours = (self.between.nearest, to_nearest(self.samples.values, self.real.held_out))
        return copies((self.real.neighbours[:, 0], self.real.to_held_out), ours, self.searched)

    @property
    def apart(self) -> float:
        """Median squared distance from a sample to its nearest other, divided by that of the real images."""
        return float(self.within.neighbours[:, 0].median() / self.real.neighbours[:, 0].median())

    def has(self, need: str) -> bool:
        """Whether figures with this need (table.Figure.needs) apply; false for needs beyond images."""
        return need in HAS and HAS[need](self)

    def estimates(self, extractor: str) -> dict[str, Estimate]:
        """The figures that apply, by their names, in the order of the table."""
        found = [figure for figure in table.FIGURES if self.has(figure.needs)]
        return {figure.called(extractor): figure.function()(self) for figure in found}


HAS: dict[str, Callable[[Compared], bool]] = {
    "samples": lambda compared: True,
    "class logits": lambda compared: compared.samples.logits is not None,
    "held-out images": lambda compared: compared.copies is not None,
    "requested classes": lambda compared: compared.asked is not None,
    "walks through the noise": lambda compared: compared.walks is not None,
    "wavelets": lambda compared: compared.wavelets is not None,
}


def frechet(compared: Compared) -> Estimate:
    return compared.frechet


def frechet_infinity(compared: Compared) -> Estimate:
    real = compared.real
    return distances.frechet_at_infinity(real.mean, real.root, compared.samples.values, compared.frechet)


def wavelet_distance(compared: Compared) -> Estimate:
    """Each feature is divided by its deviation among the real images: bands are orders of magnitude weaker than
    colours."""
    assert compared.wavelets is not None
    real = compared.real
    scaled = (compared.wavelets.double() - real.wavelet_mean) / real.wavelet_scale
    return distances.frechet_distance(torch.zeros_like(real.wavelet_mean), real.wavelet_root, scaled)


def kernel(compared: Compared) -> Estimate:
    return distances.kernel_distance(float(compared.real.kernel), compared.between.kernel, compared.within.kernel)


def inception(compared: Compared) -> Estimate:
    assert compared.samples.logits is not None
    return inception_score(compared.samples.logits)


def precision(compared: Compared) -> Estimate:
    return compared.manifold.precision


def recall(compared: Compared) -> Estimate:
    return compared.manifold.recall


def density(compared: Compared) -> Estimate:
    return compared.manifold.density


def coverage(compared: Compared) -> Estimate:
    return compared.manifold.coverage


def pair_similarity(compared: Compared) -> Estimate:
    return mean(compared.pairs)


def copied(compared: Compared) -> Estimate:
    assert compared.copies is not None
    return compared.copies.copied


def conditional_accuracy(compared: Compared) -> Estimate:
    """How often the extractor's largest logit is the class that was asked for (Shmelkov et al. 2018's GAN-test).

    NaN where a logit is not a number.
    """
    logits = compared.samples.logits
    assert logits is not None and compared.asked is not None
    seen = (logits.argmax(dim=1) == compared.asked).double()
    return mean(seen.masked_fill(~torch.isfinite(logits).all(dim=1), torch.nan))


def walk_detour(compared: Compared) -> Estimate:
    assert compared.walks is not None
    return walks.detour(compared.walks)


def walk_jump(compared: Compared) -> Estimate:
    assert compared.walks is not None
    return walks.jump(compared.walks)
