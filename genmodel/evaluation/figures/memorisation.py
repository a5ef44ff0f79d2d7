"""Memorisation: whether samples are closer to training images than images that were not trained on.

For each image: its distance to the nearest training image, divided by its distance to the nearest held-out image (val
split). The ratio is near 1 for a new image, whatever it looks like (blurred too), and near 0 for a copy. How small it
gets by chance, or through near-duplicates, is measured on the training images: each against the others.
After the held-out control of Meehan et al. 2020 (A Non-Parametric Test to Detect Data-Copying).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate, mean

_BY_CHANCE = 0.002  # share of the real images that count as copies: it sets the threshold for samples
_SURE = 2.326  # standard deviations: 1% on one side


class Copies(NamedTuple):
    """copied: share of the samples that copy a training image, minus what chance explains, 0 to 1;
    visible: the smallest share that would be detected; threshold: the ratio below which a sample counts as a copy;
    ratios: float64 [N] of the samples."""

    copied: Estimate
    visible: float
    threshold: float
    ratios: Tensor

    @property
    def seen(self) -> bool:
        """Whether more is copied than chance explains: chance alone exceeds half of `visible` 1 time in 100."""
        return self.copied.value > self.visible / 2


def copies(real: tuple[Tensor, Tensor], samples: tuple[Tensor, Tensor], searched: float = 1.0) -> Copies:
    """From squared distances to the nearest training image and to the nearest held-out image, [N] each.

    `real` is for training images, to the nearest other one; `searched` is the share of the training images that were
    searched: below 1, proportionally fewer copies are found. A share of `visible` is detected in 99 of 100 cases, with
    a false alarm in 1 of 100: 2 x 2.326 standard deviations of the share that chance alone gives.
    """
    by_chance, ratios = _ratios(*real), _ratios(*samples)
    threshold = float(torch.quantile(by_chance, _BY_CHANCE))
    expected = float((by_chance <= threshold).double().mean())
    rare = max(expected, 1 / len(by_chance), 1 / len(ratios))
    noise = math.sqrt(rare * (1 - rare) * (1 / len(by_chance) + 1 / len(ratios)))
    scale = searched * (1 - expected)
    hits = mean((ratios <= threshold).double().masked_fill(ratios.isnan(), math.nan))
    copied = min(1.0, max(0.0, (hits.value - expected) / scale)) if math.isfinite(hits.value) else math.nan
    visible = min(1.0, 2 * _SURE * noise / scale)
    return Copies(Estimate(copied, hits.influence / scale, low=0, high=1), visible, threshold, ratios)


def _ratios(to_training: Tensor, to_held_out: Tensor) -> Tensor:
    """Ratios of distances; 1 if both are 0, infinite if only the held-out one is."""
    ratios = (to_training / to_held_out).sqrt()
    return torch.where((to_training == 0) & (to_held_out == 0), torch.ones_like(ratios), ratios)
