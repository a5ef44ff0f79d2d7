"""The two layers that all families are made of: Down halves the side of a map, Up doubles it, with 4x4 kernels.

They are nn.Conv2d and nn.ConvTranspose2d with another way to compute the same weight gradient, used where it is faster:
on a CPU in bf16 without AMX, where oneDNN runs along rows that are too short for it. One matrix product takes 0.65 of
its time there for 4x4 maps at width 512, a third at 1024 (benchmarks/RESULTS.md).
"""

import functools
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.sizes import Size

_SHAPE: dict[str, Any] = {"stride": 2, "padding": 1}
_SHORT = 8  # longest row of the smaller map for which the product is faster


class Down(nn.Conv2d):
    """[N, before, 2H, 2W] -> [N, after, H, W]."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__(before, after, 4, bias=bias, **_SHAPE)

    def forward(self, images: Tensor) -> Tensor:
        if _by_product(images, images.shape[-1] // 2):
            return _convolved(images, self.weight, self.bias, up=False)
        return super().forward(images)


class Up(nn.ConvTranspose2d):
    """[N, before, H, W] -> [N, after, 2H, 2W]."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__(before, after, 4, bias=bias, **_SHAPE)

    def forward(self, images: Tensor, output_size: list[int] | None = None) -> Tensor:
        if _by_product(images, images.shape[-1]):
            return _convolved(images, self.weight, self.bias, up=True)
        return super().forward(images, output_size)


def base_map(size: Size, family: str) -> tuple[Size, int]:
    """The smallest map, whose short side is 4 to 7, and how often it doubles to reach `size`: (4, 4), 4 for 64 px,
    (7, 7), 2 for 28 px, (4, 8), 4 for 128x64. ConfigError, naming the nearest sizes, if there is none."""
    times = _times(min(size))
    if times < 1 or any(side % 2**times for side in size):
        near = " or ".join(map(str, _nearest(size)))
        raise ConfigError(
            f"{family} cannot make {size} px images: it halves both sides until the shorter is 4 to 7, and can "
            f"make {near}"
        )
    return Size(size.height >> times, size.width >> times), times


def _times(side: int) -> int:
    """How often a side halves until it is below 8."""
    return max(0, side.bit_length() - 3)


def _nearest(size: Size) -> list[Size]:
    """The two possible sizes nearest to an impossible one; squares for a square."""
    short, long = sorted(size)
    shorts = [base << times for times in range(1, 10) for base in range(4, 8)]
    below, above = max((side for side in shorts if side <= short), default=8), min(s for s in shorts if s >= short)
    found = {}
    for side in (below, above):
        unit = 1 << _times(side)
        for other in [side] if size.is_square else [long // unit * unit, -(-long // unit) * unit]:
            if other >= side:
                fitting = Size(side, other) if size.height <= size.width else Size(other, side)
                found[fitting] = abs(side - short) + abs(other - long)
    return sorted(sorted(found, key=found.__getitem__)[:2])


def weight_gradient(large: Tensor, small: Tensor) -> Tensor:
    """Gradient of the weights between a map [N, L, 2H, 2W] and one of half its side [N, S, H, W]: [S, L, 4, 4].

    One of `large` and `small` is the layer's input, the other the gradient of its output: Down and Up are each other's
    transposes, so it does not matter which. All steps are differentiable, for gradient penalties.
    """
    padded = F.pad(large, (1, 1, 1, 1)).permute(0, 2, 3, 1)
    patches = padded.unfold(1, 4, 2).unfold(2, 4, 2).permute(0, 1, 2, 4, 5, 3).reshape(-1, 16 * large.shape[1])
    columns = small.permute(0, 2, 3, 1).reshape(-1, small.shape[1])
    return (columns.T @ patches).view(small.shape[1], 4, 4, large.shape[1]).permute(0, 3, 1, 2)


class _Convolution(torch.autograd.Function):
    """Down's or Up's convolution, with weight_gradient in its backward pass."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, up: bool) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.up = up
        return (F.conv_transpose2d if up else F.conv2d)(images, weight, **_SHAPE)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        images, weight = ctx.saved_tensors
        to_images, to_weight, _ = ctx.needs_input_grad
        back = F.conv2d if ctx.up else F.conv_transpose2d
        large, small = (slope, images) if ctx.up else (images, slope)
        return (
            back(slope, weight, **_SHAPE) if to_images else None,
            weight_gradient(large, small) if to_weight else None,
            None,
        )


def _convolved(images: Tensor, weight: Tensor, bias: Tensor | None, up: bool) -> Tensor:
    dtype = torch.get_autocast_dtype("cpu")  # cast here: a cast inside would detach the weights from second derivatives
    made: Tensor = _Convolution.apply(images.to(dtype), weight.to(dtype), up)
    return made if bias is None else made + bias.to(dtype)[:, None, None]


def _by_product(images: Tensor, short: int) -> bool:
    """Whether to compute the weight gradient as a product; `short` is the row of the smaller map."""
    wanted = images.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    return wanted and short <= _SHORT and _bf16_without_amx()


@functools.cache
def _bf16_without_amx() -> bool:
    has = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(has.get("avx512_bf16")) and not has.get("amx_bf16")
