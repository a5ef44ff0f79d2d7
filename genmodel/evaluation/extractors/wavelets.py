"""Features that need neither labels nor training: colours on a grid, and how strong Haar wavelets are at each scale.

A judge of another kind than a trained network: it knows no classes, but blur, noise and checkerboards change it.
"""

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, avg_pool2d, conv2d

from genmodel.pixels import to_model

_COLOURS, _CELLS = 4, 2  # cells along a side, of mean colours and of each band
_SMALLEST = 4  # pixels of the short side at the coarsest scale
_BANDS = (((1, 1), (-1, -1)), ((1, -1), (1, -1)), ((1, -1), (-1, 1)))  # across, along, and the checkerboard


def wavelets(images: Tensor) -> Tensor:
    """Of uint8 [N, H, W, C]: float [N, d], in levels from -1 to 1.

    16 mean colours a channel; then for each scale (halved until the short side is 4 pixels), channel and band the mean
    modulus in four cells. Undecimated: a pattern that is shifted by a pixel counts the same.
    """
    level = to_model(images)
    channels = level.shape[1]
    filters = torch.tensor(_BANDS, dtype=level.dtype, device=level.device)[:, None].repeat(channels, 1, 1, 1) / 4
    found = [adaptive_avg_pool2d(level, _COLOURS).flatten(1)]
    while min(level.shape[-2:]) >= _SMALLEST:
        strength = conv2d(level, filters, groups=channels).abs()
        found.append(adaptive_avg_pool2d(strength, _CELLS).flatten(1))
        level = avg_pool2d(level, 2)
    return torch.cat(found, dim=1)


def strengths(features: Tensor, channels: int) -> Tensor:
    """Mean strength of each band at each scale, finest first: [scales, 3], from mean features [d]."""
    bands = features[_COLOURS**2 * channels :].view(-1, channels, len(_BANDS), _CELLS**2)
    return bands.mean(dim=(1, 3))
