"""Inverse autoregressive flow on maps: Kingma, Salimans, Jozefowicz, Chen, Sutskever & Welling 2016, section 4.

The values of a map have an order: places from the top left, row by row, and at a place channel by channel. A value is
moved and scaled by what a network makes of the values before it, so the Jacobian is triangular, and the logarithm of
its determinant a sum. Another step with the order reversed lets the first values depend on the last ones.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.models.parts.weight_norm import WeightNorm

_CALM = 0.1  # of what the network says: a step begins near the identity


class CausalConvolution(WeightNorm):
    """[N, C, H, W] -> [N, outputs, H, W]: an output depends on all channels of the places before its own within a 3x3
    window, and at its own on the channels of a lower degree; with `own` also on those of its degree.

    `degrees` of inputs and outputs, int64 [C] and [outputs], say which values of a place they may depend on. Rows of
    the window that are never seen are not computed.
    """

    def __init__(self, before: Tensor, after: Tensor, own: bool, reverse: bool) -> None:
        super().__init__(nn.Conv2d(len(before), len(after), (2, 3), padding=1), learn_scale=True)
        self.reverse = reverse
        mask = torch.zeros(len(after), len(before), 2, 3)
        mask[:, :, 0] = mask[:, :, 1, 0] = 1
        mask[:, :, 1, 1] = (before <= after[:, None]) if own else (before < after[:, None])
        self.mask: Tensor
        self.register_buffer("mask", mask.flip(2, 3) if reverse else mask, persistent=False)

    @property
    def direction(self) -> Tensor:
        return self.layer.weight * self.mask

    def forward(self, maps: Tensor) -> Tensor:
        made = super().forward(maps)  # padded above and below: a row too many, on the side that is not seen
        return made[:, :, 1:] if self.reverse else made[:, :, :-1]


class InverseAutoregressive(nn.Module):
    """z and a context [N, hidden, H, W] -> z', and the logarithm by which each of its values is narrowed; all but the
    context [N, channels, H, W]. log|det dz'/dz| is minus the sum of the last."""

    def __init__(self, channels: int, hidden: int, reverse: bool) -> None:
        super().__init__()
        values = torch.arange(channels)
        inner = torch.arange(hidden) * channels // hidden
        if reverse:
            values, inner = channels - 1 - values, channels - 1 - inner
        self.first = CausalConvolution(values, inner, own=True, reverse=reverse)
        self.second = CausalConvolution(inner, inner, own=True, reverse=reverse)
        self.last = CausalConvolution(inner, values.repeat(2), own=False, reverse=reverse)

    def forward(self, z: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        hidden = F.elu(self.second(F.elu(self.first(z) + context)))
        shift, narrowed = (_CALM * self.last(hidden).to(z.dtype)).chunk(2, dim=1)
        return (z - shift) * (-narrowed).exp(), narrowed
