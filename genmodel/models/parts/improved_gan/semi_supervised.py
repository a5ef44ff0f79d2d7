"""Losses of a discriminator that also classifies: Salimans et al. 2016, sections 3.1, 3.4 and 5.

It has a logit l for each of K classes; that of the class of fakes is 0. So D(x) = Z / (Z + 1) with Z = sum of exp l:
the log-odds that an image is real are logsumexp(l). With one logit these are the usual losses.
"""

import torch.nn.functional as F
from torch import Tensor


def log_odds(logits: Tensor) -> Tensor:
    """Logits [N, K] of the classes -> log-odds [N] that an image is real."""
    return logits.logsumexp(dim=1)


def smoothed_discriminator_loss(real_odds: Tensor, fake_odds: Tensor, target: float) -> Tensor:
    """One-sided label smoothing: cross-entropy with the target `target` for real images and 0 for fakes. In nats."""
    real = target * F.softplus(-real_odds) + (1 - target) * F.softplus(real_odds)
    return real.mean() + F.softplus(fake_odds).mean()


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """-log p(label | image, real): the mean over the images that have a label, int64 [N]; 0 if none has. In nats."""
    wrong = F.cross_entropy(logits, labels.clamp(min=0), reduction="none")
    known = (labels >= 0).to(wrong.dtype)
    return (known * wrong).sum() / known.sum().clamp(min=1)


def feature_matching_loss(real_mean: Tensor, fake_mean: Tensor) -> Tensor:
    """The mean squared difference of the batches' mean features, [features] each (section 3.1)."""
    return (real_mean - fake_mean).square().mean()
