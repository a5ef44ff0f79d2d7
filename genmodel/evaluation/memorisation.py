"""Memorisation: whether samples lie nearer to training images than images that nobody trained on would.

For each image the ratio of its distance to the nearest training image to that to the nearest held-out image (val
split). It is near 1 for what is new, whatever the samples look like (blurred ones too), and near 0 for a copy. How
small it gets by chance, or by twins among the images, the training images themselves tell: each against the others.
After the idea of a held-out control in Meehan et al. 2020 (A Non-Parametric Test to Detect Data-Copying).
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from genmodel.evaluation.bootstrap import Estimate, mean

_BY_CHANCE = 0.002  # share of the real images that count as copies: it sets the ratio below which a sample does
_SURE = 2.326  # standard deviations: 1% on one side


class Copies(NamedTuple):
    """copied: share of the samples that copy a training image, after taking away what chance explains, 0 to 1;
    visible: the smallest share that would be seen; threshold: the ratio below which a sample counts as a copy;
    ratios: float64 [N] of the samples."""

    copied: Estimate
    visible: float
    threshold: float
    ratios: Tensor

    @property
    def seen(self) -> bool:
        """Whether more is copied than chance explains: half of what is surely seen lies beyond it 1 time in 100."""
        return self.copied.value > self.visible / 2


def copies(real: tuple[Tensor, Tensor], samples: tuple[Tensor, Tensor], searched: float = 1.0) -> Copies:
    """From squared distances to the nearest training image and to the nearest held-out image, [N] each.

    `real` are those of training images, to the nearest other one; `searched` is the share of the training images that
    were looked at: where it is below 1, as many times fewer copies are met. A share of `visible` is told from none in
    99 of 100 cases, with a false alarm in 1 of 100: 2 x 2.326 standard deviations of a share that chance alone makes.
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
    """Ratios of distances; 1 where both are 0, infinite where only the held-out one is."""
    ratios = (to_training / to_held_out).sqrt()
    return torch.where((to_training == 0) & (to_held_out == 0), torch.ones_like(ratios), ratios)
