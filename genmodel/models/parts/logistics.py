"""A mixture of discretised logistics for the colour values of every pixel: Salimans et al. 2017 (PixelCNN++), 2.1-2.2.

A pixel takes one component for all its channels. Within a component a channel's mean depends linearly on the channels
before it (mean_c + sum of tanh(coefficient) x_j over j < c), for RGBA as for RGB. A network gives the numbers of all
that as maps [N, mixture_width(C, components), H, W]: for each component a logit of its weight, C means, C logarithms
of the scale, and C (C - 1) / 2 coefficients. Images are in [-1, 1], at the 256 levels k / 127.5 - 1.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from genmodel.models.parts.losses import discretised_logistic_log_mass, widened

_LEAST = -7.0  # log-scale; a narrower logistic has all its mass in one level


class _Mixture(NamedTuple):
    """K components at each pixel, and the images that their means are taken beside."""

    log_weights: Tensor  # [N, K, H, W], of probabilities that sum to 1
    means: Tensor  # [N, C, K, H, W], before the channels are coupled
    log_scales: Tensor  # [N, C, K, H, W]
    coefficients: Tensor  # [N, C (C - 1) / 2, K, H, W], in (-1, 1)

    def mean(self, channel: int, earlier: list[Tensor]) -> Tensor:
        """[N, K, H, W], given the channels before it, [N, H, W] each."""
        mean, first = self.means[:, channel], channel * (channel - 1) // 2
        for place, values in enumerate(earlier, first):
            mean = mean + self.coefficients[:, place] * values[:, None]
        return mean

    def log_mass(self, channel: int, earlier: list[Tensor], levels: Tensor) -> Tensor:
        """log P of `levels`, that broadcast to [N, K, H, W], in each component."""
        return discretised_logistic_log_mass(levels, self.mean(channel, earlier), self.log_scales[:, channel])


def mixture_width(channels: int, components: int) -> int:
    """How many numbers a network gives for each pixel: 3, 10 or 15 per component for 1, 3 or 4 channels."""
    return components * _numbers(channels)


def mixture_nll(images: Tensor, parameters: Tensor) -> Tensor:
    """-log P(image) in nats, [N], of images [N, C, H, W] under parameters [N, mixture_width, H, W]."""
    mixture, channels = _mixture(parameters, images.shape[1]), list(images.unbind(1))
    joint = mixture.log_weights
    for channel, values in enumerate(channels):
        joint = joint + mixture.log_mass(channel, channels[:channel], values[:, None])
    return -joint.logsumexp(dim=1).flatten(1).sum(dim=1)


def draw(parameters: Tensor, uniforms: Tensor) -> Tensor:
    """Images [N, C, H, W] at the 256 levels, from numbers in [-1, 1) (a Space's uniform part), [N, 1 + C, H, W].

    The first number of a pixel picks the component, the next ones are the quantiles of the channels' values.
    """
    mixture = _mixture(parameters, uniforms.shape[1] - 1)
    points = ((uniforms + 1) / 2).clamp(2**-25, 1 - 2**-24)  # the quantiles 0 and 1 are infinitely far
    bounds = mixture.log_weights.exp().cumsum(dim=1)[:, :-1]
    picked = (bounds <= points[:, :1]).sum(dim=1, keepdim=True)  # [N, 1, H, W]
    drawn: list[Tensor] = []
    for channel, point in enumerate(points[:, 1:].unbind(1)):
        mean = mixture.mean(channel, drawn).gather(1, picked)[:, 0]
        scale = mixture.log_scales[:, channel].gather(1, picked)[:, 0].exp()
        drawn.append(_quantised(mean + scale * point.logit()))
    return torch.stack(drawn, dim=1)


def level_probabilities(parameters: Tensor, images: Tensor, channel: int) -> Tensor:
    """[N, 256, H, W]: the probability of each level of a channel, given the channels of `images` before it.

    Only those channels of images [N, C, H, W] are read. Sums to 1 over the levels.
    """
    mixture, earlier = _mixture(parameters, images.shape[1]), list(images.unbind(1))[:channel]
    log_weights = mixture.log_weights
    for before, values in enumerate(earlier):  # the components' weights after what the pixel has shown so far
        log_weights = log_weights + mixture.log_mass(before, earlier[:before], values[:, None])
    weights = log_weights.softmax(dim=1)
    levels = torch.arange(256, device=parameters.device, dtype=weights.dtype) / 127.5 - 1
    masses = mixture.log_mass(channel, earlier, levels.view(256, 1, 1, 1, 1)).exp()  # [256, N, K, H, W]
    return (weights * masses).sum(dim=2).transpose(0, 1)


def _numbers(channels: int) -> int:
    return 1 + 2 * channels + channels * (channels - 1) // 2


def _mixture(parameters: Tensor, channels: int) -> _Mixture:
    n, _, height, width = parameters.shape
    numbers = widened(parameters).reshape(n, _numbers(channels), -1, height, width)
    means, log_scales, coefficients = numbers[:, 1:].split([channels, channels, channels * (channels - 1) // 2], dim=1)
    return _Mixture(numbers[:, 0].log_softmax(dim=1), means, log_scales.clamp(min=_LEAST), coefficients.tanh())


def _quantised(values: Tensor) -> Tensor:
    """Values at the nearest of the 256 levels, as genmodel.pixels.to_model writes them."""
    return ((values + 1) * 127.5).round().clamp(0, 255) * (2 / 255) - 1
