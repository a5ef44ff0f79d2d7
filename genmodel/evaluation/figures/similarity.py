"""How similar two images are: pure functions in float64 of pairs of images, float levels 0 to 255 as [N, C, H, W]."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

_PEAK = 255.0
_ROUNDING = 1 / 12  # the error of rounding to whole levels: PSNR above 58.9 dB means nothing
_WINDOW, _DEVIATION = 11, 1.5  # of the Gaussian, in pixels (Wang et al. 2004, section III.C)
_STABILISER = ((0.01 * _PEAK) ** 2, (0.03 * _PEAK) ** 2)
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # weights, fine to coarse (Wang et al. 2003, section 3.2)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal to noise ratio of each pair in decibels: [N]."""
    error = (a.double() - b.double()).square().flatten(1).mean(dim=1).clamp(min=_ROUNDING)
    return 10 * torch.log10(_PEAK**2 / error)


def ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity of each pair, [N], at most 1 (Wang et al. 2004, eq. 13): the mean over map and channels.

    Whole windows only; along a side shorter than 11 px the window is the side.
    """
    similarity, _ = _maps(a.double(), b.double())
    return similarity


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity over up to five scales, each half as fine: [N], 0 to 1 (Wang et al. 2003, eq. 7).

    Small images have as many scales as fit whole windows along the short side (16 px one, 64 px three, 176 px five),
    their weights scaled to sum to 1: compare at equal sizes only. A scale's mean below 0 counts as 0.
    """
    a, b = a.double(), b.double()
    sides = [min(a.shape[-2:]) // 2**scale for scale in range(len(_SCALES))]
    scales = max(1, sum(side >= _WINDOW for side in sides))
    weights = torch.tensor(_SCALES[:scales], dtype=torch.float64)
    product = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for scale, weight in enumerate((weights / weights.sum()).tolist()):
        whole, structure = _maps(a, b)
        product *= (whole if scale == scales - 1 else structure).clamp(min=0) ** weight
        a, b = avg_pool2d(a, 2), avg_pool2d(b, 2)
    return product


def _maps(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Means over map and channels of luminance x contrast x structure, and of contrast x structure: [N] each."""
    down, along = (_gaussian(side).to(a.device) for side in a.shape[-2:])

    def mean(images: Tensor) -> Tensor:
        return down @ images @ along.T

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a**2 + mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    structure = (2 * covariance + _STABILISER[1]) / (variances + _STABILISER[1])
    luminance = (2 * mean_a * mean_b + _STABILISER[0]) / (mean_a**2 + mean_b**2 + _STABILISER[0])
    return (luminance * structure).flatten(1).mean(dim=1), structure.flatten(1).mean(dim=1)


def _gaussian(side: int) -> Tensor:
    """The window at each of its whole positions as a row: [side - 10, side]; a product on each side blurs an image."""
    window = min(_WINDOW, side)
    offsets = torch.arange(window, dtype=torch.float64) - (window - 1) / 2
    weights = (-offsets.square() / (2 * _DEVIATION**2)).exp()
    rows = torch.zeros(side - window + 1, side, dtype=torch.float64)
    for place, row in enumerate(rows):
        row[place : place + window] = weights / weights.sum()
    return rows
