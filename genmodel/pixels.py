"""The one place that knows pixel ranges: uint8 NHWC in [0, 255] outside, float NCHW in [-1, 1] inside the models."""

import torch
from torch import Tensor


def to_model(images: Tensor) -> Tensor:
    """uint8 [N, H, W, C] -> float32 [N, C, H, W] in [-1, 1], in channels_last memory without copying for it."""
    return images.permute(0, 3, 1, 2).to(torch.float32).mul_(2 / 255).sub_(1)


def to_rgb(images: Tensor, ground: Tensor | int = 255) -> Tensor:
    """uint8 [N, H, W, C] of 1, 3 or 4 channels -> uint8 [N, H, W, 3]: grey repeated, RGBA composited on `ground`,
    levels that broadcast to the images; white by default."""
    channels = images.shape[-1]
    if channels == 1:
        return images.expand(*images.shape[:-1], 3)
    if channels == 4:
        colours, opaque = images[..., :3].int(), images[..., 3:].int()
        return ((colours * opaque + ground * (255 - opaque) + 127) // 255).to(torch.uint8)
    return images


def to_uint8(images: Tensor) -> Tensor:
    """float [N, C, H, W] in [-1, 1], clamped, -> uint8 [N, H, W, C], rounded to the nearest level."""
    levels = images.float().add(1).mul(127.5).round().clamp(0, 255)
    return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
