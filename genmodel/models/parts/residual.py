"""Layers of residual networks on maps [N, H, W, C]: a grouped convolution, and smoothed resampling.

The grouped convolution is fast to differentiate twice, as gradient penalties do. torch's own second derivative of a
convolution swaps images and channels and, for groups, loops over them; here both gradients of the convolution are
convolutions again.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_only_images = False


class Grouped(nn.Conv2d):
    """[N, H, W, C] -> [N, H, W, C] by 3x3 kernels within groups of channels; zeros around the map."""

    def __init__(self, channels: int, groups: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=groups)

    def forward(self, maps: Tensor) -> Tensor:
        images, weight, bias = maps.permute(0, 3, 1, 2), self.weight, self.bias
        if not torch.is_grad_enabled():
            return super().forward(images).permute(0, 2, 3, 1)
        kind = maps.device.type
        if torch.is_autocast_enabled(kind):  # cast here: a cast inside would detach the weights from second derivatives
            dtype = torch.get_autocast_dtype(kind)
            images, weight = images.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        made: Tensor = _Convolution.apply(images, weight, bias, self.groups)
        return made.permute(0, 2, 3, 1)


class Resample(nn.Module):
    """Maps of twice (`up`) or half the sides, smoothed by [1, 2, 1]; a 1x1 convolution where the width changes."""

    kernel: Tensor

    def __init__(self, before: int, after: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.change = nn.Linear(before, after, bias=False) if before != after else nn.Identity()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8  # [1, 2, 1] on doubled pixels, or before pairs are averaged
        self.register_buffer("kernel", (4 if up else 1) * taps[:, None] * taps, persistent=False)

    def forward(self, maps: Tensor) -> Tensor:
        if self.up:
            return self._resampled(self.change(maps), F.conv_transpose2d)
        made: Tensor = self.change(self._resampled(maps, F.conv2d))
        return made

    def _resampled(self, maps: Tensor, convolve: Callable[..., Tensor]) -> Tensor:
        channels = maps.shape[-1]
        kernel = self.kernel.to(maps.dtype).expand(channels, 1, 4, 4)
        return convolve(maps.permute(0, 3, 1, 2), kernel, stride=2, padding=1, groups=channels).permute(0, 2, 3, 1)


@contextlib.contextmanager
def only_images() -> Iterator[None]:
    """Gradients computed inside are those of images: those of weights, which autograd.grad would drop, are not made."""
    global _only_images
    before, _only_images = _only_images, True
    try:
        yield
    finally:
        _only_images = before


class _Convolution(torch.autograd.Function):
    """Of [N, C, H, W], weights [C, C / groups, 3, 3] and perhaps a bias [C]."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> Tensor:
        ctx.save_for_backward(maps, weight)
        ctx.groups = groups
        return F.conv2d(maps, weight, bias, padding=1, groups=groups)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        maps, weight = ctx.saved_tensors
        to_maps, to_weight, to_bias, _ = ctx.needs_input_grad
        return (
            _Convolution.apply(gradient, _turned(weight, ctx.groups), None, ctx.groups) if to_maps else None,
            _WeightGradient.apply(maps, gradient, ctx.groups) if to_weight and not _only_images else None,
            gradient.sum((0, 2, 3)) if to_bias and not _only_images else None,
            None,
        )


class _WeightGradient(torch.autograd.Function):
    """Of the input [N, C, H, W] of a convolution and the gradient of its output: that of its weights."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, gradient: Tensor, groups: int) -> Tensor:
        ctx.save_for_backward(maps, gradient)
        ctx.groups = groups
        weight = maps.new_empty(maps.shape[1], maps.shape[1] // groups, 3, 3)
        shape = ([1, 1], [1, 1], [1, 1], False, [0, 0], groups, [False, True, False])
        found: Tensor = torch.ops.aten.convolution_backward(gradient, maps, weight, None, *shape)[1]
        return found

    @staticmethod
    def backward(ctx: Any, change: Tensor) -> tuple[Tensor, Tensor, None]:
        maps, gradient = ctx.saved_tensors
        to_maps = _Convolution.apply(gradient, _turned(change, ctx.groups), None, ctx.groups)
        return to_maps, _Convolution.apply(maps, change, None, ctx.groups), None


def _turned(weight: Tensor, groups: int) -> Tensor:
    """The weights of the transposed convolution: each group's inputs and outputs swapped, kernels turned by 180
    degrees."""
    channels, inner = weight.shape[:2]
    swapped = weight.view(groups, inner, inner, 3, 3).transpose(1, 2).flip(-1, -2)
    return swapped.reshape(channels, inner, 3, 3)
