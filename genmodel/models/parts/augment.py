"""Differentiable augmentation of what a discriminator sees, real and fake alike: Zhao et al. 2020, "Differentiable
Augmentation for Data-Efficient GAN Training". Without it a discriminator memorises a small training set."""

import torch
from torch import Tensor
from torch.nn.functional import pad

from genmodel.models.contract import Noise


def translate(images: Tensor, reach: int, noise: Noise) -> Tensor:
    """Move each of [N, C, H, W] images in [-1, 1] by up to `reach` pixels along both axes; edges fill with -1 (black).

    Gradients flow back to the pixels that stay in view.
    """
    if reach == 0:
        return images
    count, _, height, width = images.shape
    shifts = noise.rows(count, lambda n, rng: torch.randint(2 * reach + 1, (n, 2), generator=rng, device=rng.device))
    rows = (shifts[:, :1] + torch.arange(height, device=images.device))[:, :, None]
    columns = (shifts[:, 1:] + torch.arange(width, device=images.device))[:, None, :]
    each = torch.arange(count, device=images.device)[:, None, None]
    padded = pad(images, (reach, reach, reach, reach), value=-1.0).permute(0, 2, 3, 1)
    return padded[each, rows, columns].permute(0, 3, 1, 2)
