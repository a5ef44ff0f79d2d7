"""Losses as pure functions of logits and distributions' parameters; each names its source."""

import contextlib
import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def widened(values: Tensor) -> Tensor:
    """In at least float32, as losses need it, whatever the networks compute in."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """-E[log D(x)] - E[log(1 - D(G(z)))], D = sigmoid(logit); Goodfellow et al. 2014, eq. 1. In nats."""
    return F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()


def non_saturating_loss(fake_logits: Tensor) -> Tensor:
    """-E[log D(G(z))], the generator's non-saturating loss; Goodfellow et al. 2014, section 3. In nats."""
    return F.softplus(-fake_logits).mean()


def r1_penalty(real_logits: Tensor, real_images: Tensor) -> Tensor:
    """E[|grad_x D(x)|^2] over real images, which must require grad; `real_logits` [N] are their logits.

    Mescheder et al. 2018, eq. 9, without its gamma / 2. Its gradient goes through the discriminator twice.
    """
    (slopes,) = torch.autograd.grad(real_logits.sum(), real_images, create_graph=True)
    return slopes.square().flatten(1).sum(dim=1).mean()


def gaussian_kl(mu: Tensor, logvar: Tensor) -> Tensor:
    """KL(N(mu, exp(logvar)) || N(0, 1)) of each number of the code, in nats; Kingma & Welling 2014, appendix B."""
    return 0.5 * (mu.square() + logvar.exp() - 1 - logvar)


def free_bits(rates: Tensor, least: float, gather: Callable[[Tensor], Tensor]) -> Tensor:
    """KL terms in nats, [N, groups] -> a scalar: the sum over groups of the batch's mean, each at least `least`, so
    that there is nothing to gain below it (Kingma et al. 2016, eq. 15). `gather` is Step's: the batch is that of all
    processes. A sampled term can be negative; without a floor, 0, it counts as it is."""
    means = rates.mean(0)
    return gather(means[None]).mean(0).clamp(min=least).sum() if least else means.sum()


def discretised_logistic_nll(images: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """-log P(image) in nats, summed over colour values: [N]; Salimans et al. 2017 (PixelCNN++), eq. 2, one component.

    `images` are in [-1, 1], at the 256 levels k / 127.5 - 1; `mean` and `log_scale` broadcast to them.
    """
    return -discretised_logistic_log_mass(images, mean, log_scale).flatten(1).sum(dim=1)


def discretised_logistic_log_mass(levels: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """log P(level) in nats of colour values in [-1, 1], at the 256 levels k / 127.5 - 1; all three broadcast.

    Each level gets the logistic's mass between the midpoints to its two neighbours, the outer two also the tails: the
    256 masses sum to 1, so that this is the likelihood of the uint8 image, and bits per dimension are correct.
    """
    half = 1 / 255
    inverse_scale = (-log_scale).exp()
    centred = levels - mean
    upper = (centred + half) * inverse_scale
    lower = (centred - half) * inverse_scale
    below, above = F.logsigmoid(upper), F.logsigmoid(-lower)  # log-mass below the level's upper edge, above its lower
    # log(sigmoid(upper) - sigmoid(lower)) without cancellation, for upper > lower
    inside = below + above + (-torch.expm1(-2 * half * inverse_scale)).log()  # log1p(-exp) is infinite at wide scales
    return torch.where(levels < -1 + half, below, torch.where(levels > 1 - half, above, inside))


def bits_per_dim(nats: Tensor, dimensions: int) -> Tensor:
    """Nats of a whole image -> bits per colour value."""
    return nats / (dimensions * math.log(2))


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Gradients computed inside pass through `network`, but its weights get none."""
    free = [value for value in network.parameters() if value.requires_grad]
    for value in free:
        value.requires_grad_(False)
    try:
        yield
    finally:
        for value in free:
            value.requires_grad_(True)
