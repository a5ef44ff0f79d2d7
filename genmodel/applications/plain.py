"""Ways without a model, to begin from and to be measured beside: float images [N, C, H, W] in any range."""

import torch
import torch.nn.functional as F
from torch import Tensor

_TURNS = 2000  # of diffusion: enough for holes of 64 px


def filled(images: Tensor, known: Tensor) -> Tensor:
    """The pixels that are not `known`, bool [H, W], each the mean of its four neighbours: the colours at the border of
    a hole, diffused into it."""
    if not known.any():
        return torch.zeros_like(images)
    weights = known.to(images)
    start = (images * weights).sum((2, 3), keepdim=True) / weights.sum()
    made = torch.where(known, images, start)
    for _ in range(min(_TURNS, 4 * max(known.shape) ** 2)):
        around = F.pad(made, (1, 1, 1, 1), mode="replicate")
        mean = (around[..., :-2, 1:-1] + around[..., 2:, 1:-1] + around[..., 1:-1, :-2] + around[..., 1:-1, 2:]) / 4
        made = torch.where(known, images, mean)
    return made


def median(images: Tensor, window: int = 3) -> Tensor:
    """The median of the window x window pixels around each."""
    reach = window // 2
    around = F.pad(images, (reach, reach, reach, reach), mode="replicate")
    patches = around.unfold(2, window, 1).unfold(3, window, 1)
    return patches.flatten(4).median(dim=4).values


def enlarged(images: Tensor, factor: int) -> Tensor:
    """Bicubic, as Pillow's and most programs' is."""
    return F.interpolate(images, scale_factor=factor, mode="bicubic", antialias=True)  # else with another weight
