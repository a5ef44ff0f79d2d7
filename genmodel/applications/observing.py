"""What is seen of images, as an Observation: their known pixels, a smaller image of each, or each under noise."""

import math

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from genmodel.models.abilities import Observation


def known_pixels(images: Tensor, known: Tensor) -> Observation:
    """Of float [N, C, H, W] in [-1, 1], the pixels where `known`, bool [H, W], is true."""

    def back(seen: Tensor) -> Tensor:
        whole = torch.zeros(*seen.shape[:2], *known.shape, device=seen.device)
        whole[:, :, known] = seen
        return whole

    return Observation(images[:, :, known], lambda whole: whole[:, :, known], back, 0.0)


def smaller(images: Tensor, factor: int) -> Observation:
    """Images of which `images`, float [N, C, h, w] in [-1, 1], hold the means of squares of factor x factor pixels."""

    def back(seen: Tensor) -> Tensor:
        return seen.repeat_interleave(factor, 2).repeat_interleave(factor, 3)

    return Observation(images, lambda whole: avg_pool2d(whole, factor), back, 0.0)


def noisy(images: Tensor, deviation: float) -> Observation:
    """Images float [N, C, H, W] in [-1, 1] under Gaussian noise of this deviation, in the same range.

    A value at either end was cut off: under noise, black is beyond the end half of the time, by sqrt(2 / pi) deviations
    on average. It is taken for that, or dark pixels would seem brighter than they are.
    """
    beyond = math.sqrt(2 / math.pi) * deviation
    seen = torch.where(images <= -1, -1 - beyond, torch.where(images >= 1, 1 + beyond, images))
    return Observation(seen, lambda whole: whole, lambda seen: seen, deviation)
