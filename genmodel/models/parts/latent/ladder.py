"""A layer of a ladder of latent maps: Kingma et al. 2016, figure 3 and appendix C; the blocks are those of the authors'
code. All convolutions are weight-normalised."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.models.parts.latent.autoregressive import InverseAutoregressive
from genmodel.models.parts.losses import widened
from genmodel.models.parts.weight_norm import WeightNorm

_CALM = 0.1  # of what a block adds, and of what parametrises a Gaussian's width


class Found(NamedTuple):
    """What the way up hands to the way down: a Gaussian's mean and log-deviation, and the context of the steps."""

    mean: Tensor
    deviation: Tensor
    context: Tensor  # without channels if there are no steps


class Drawn(NamedTuple):
    """A layer's output on the way down; the rate of each z in nats [N, channels, H, W], and z as the prior's noise."""

    maps: Tensor
    rate: Tensor
    noise: Tensor


class Layer(nn.Module):
    """One z [N, latent_dim, H, W] and the blocks beside it; where it `halves`, those below are of twice the size.

    The top layer's way up ends in it.
    """

    def __init__(self, width: int, latent_dim: int, steps: int, halves: bool, top: bool) -> None:
        super().__init__()
        context = width if steps else 0
        self.halves, self.parts_up = halves, [latent_dim, latent_dim, context, 0 if top else width]
        self.parts_down = [*[latent_dim] * 4, context, width]
        self.look = convolution(width, sum(self.parts_up), stride=2 if halves else 1)
        self.carry = None if top else convolution(width, width)
        self.tell = convolution(width, sum(self.parts_down))
        self.join = convolution(latent_dim + width, width * (4 if halves else 1))
        self.steps = nn.ModuleList(
            InverseAutoregressive(latent_dim, width, reverse=number % 2 == 1) for number in range(steps)
        )

    def up(self, maps: Tensor) -> tuple[Tensor, Found]:
        """The deterministic maps that go on up, and what was found."""
        mean, deviation, context, inner = self.look(F.elu(maps)).split(self.parts_up, dim=1)
        if self.carry is not None:
            maps = (maps[:, :, ::2, ::2] if self.halves else maps) + _CALM * self.carry(F.elu(inner))
        return maps, Found(mean, deviation, context)

    def down(self, maps: Tensor, noise: Tensor, found: Found | None) -> Drawn:
        """Draw z from the posterior if something was `found`, else from the prior; `noise` [N, latent_dim, H, W]."""
        told = self.tell(F.elu(maps)).split(self.parts_down, dim=1)
        prior_mean, prior, mean, deviation = map(widened, told[:4])
        prior, rate = _CALM * prior, torch.zeros_like(noise)
        if found is None:
            z, prior_noise = prior_mean + prior.exp() * noise, noise
        else:
            deviation = _CALM * (deviation + widened(found.deviation))
            z = mean + widened(found.mean) + deviation.exp() * noise
            log_posterior = -deviation - 0.5 * noise.square()
            for step in self.steps:
                z, narrowed = step(z, told[4] + found.context)
                log_posterior = log_posterior + narrowed
            prior_noise = (z - prior_mean) * (-prior).exp()
            rate = log_posterior + prior + 0.5 * prior_noise.square()
        made = self.join(F.elu(torch.cat([z.to(maps.dtype), told[5]], dim=1)))
        if self.halves:
            maps, made = F.interpolate(maps, scale_factor=2.0, mode="nearest"), F.pixel_shuffle(made, 2)
        return Drawn(maps + _CALM * made, rate, prior_noise)


def convolution(before: int, after: int, size: int = 3, stride: int = 1) -> WeightNorm:
    return WeightNorm(nn.Conv2d(before, after, size, stride, size // 2), learn_scale=True)
