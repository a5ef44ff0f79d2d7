"""Convolutions of what comes before a pixel: Salimans et al. 2017 (PixelCNN++), section 2.4.

They are shifted instead of masked, so that no weight is multiplied by zero. Channels are the last dimension of maps.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Shifted(nn.Module):
    """A convolution whose `rows` x `columns` window ends at its own row; weights [outputs, rows, columns, inputs]."""

    number: int  # its place among the convolutions of its stream
    level = 0  # of the Stage that it is in
    columns: int
    padding: tuple[int, int]  # to the left and to the right

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, 2, self.columns, inputs))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.inputs, self.stride = inputs, stride

    def forward(self, maps: Tensor) -> Tensor:
        """[N, H, W, inputs] -> [N, H / stride, W / stride, outputs]."""
        padded = F.pad(maps, (0, 0, *self.padding, 1, 0)).permute(0, 3, 1, 2)
        return F.conv2d(padded, self.weight.permute(0, 3, 1, 2), self.bias, self.stride).permute(0, 2, 3, 1)

    def windows(self, row: Tensor) -> Tensor:
        """The columns of each window side by side: [W, N, inputs] -> [W / stride, N, columns * inputs]."""
        padded, stop = F.pad(row, (0, 0, 0, 0, *self.padding)), row.shape[0]
        return torch.cat([padded[column : column + stop : self.stride] for column in range(self.columns)], dim=-1)


class DownShifted(Shifted):
    """Of a row and the one above it, three columns around each pixel."""

    columns, padding = 3, (1, 1)

    def row(self, above: Tensor, here: Tensor) -> Tensor:
        """A row of the output, [W / stride, N, outputs], from two of the input."""
        both = torch.cat([above, here], dim=-1)
        return F.linear(self.windows(both), self.weight.transpose(1, 2).flatten(1), self.bias)


class DownRightShifted(Shifted):
    """Of a row and the one above it, each pixel and the one to its left."""

    columns, padding = 2, (1, 0)

    def above(self, row: Tensor) -> Tensor:
        """What the row above, [W, N, inputs], adds to each pixel: [W / stride, N, outputs]."""
        return F.linear(self.windows(row), self.weight[:, 0].flatten(1), self.bias)

    def pixel(self, left: Tensor, here: Tensor) -> Tensor:
        """The rest, from two pixels [N, inputs]: [N, outputs]."""
        return F.linear(torch.cat([left, here], dim=-1), self.weight[:, 1].flatten(1))
