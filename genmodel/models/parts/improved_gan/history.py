"""Historical averaging: Salimans et al. 2016, section 3.3. It draws players that circle an equilibrium inwards."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class History(nn.Module):
    """The mean of a player's parameters over all its updates so far, the present one included; in buffers."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        super().__init__()
        self.mean: Tensor
        self.count: Tensor
        self.register_buffer("mean", torch.zeros(sum(value.numel() for value in parameters)))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    def distance(self, parameters: Sequence[Tensor]) -> Tensor:
        """|theta - mean|^2, a scalar, after `parameters` are counted into the mean, which takes no gradient."""
        theta = torch.cat([value.flatten() for value in parameters])
        with torch.no_grad():
            self.count.add_(1)
            self.mean.lerp_(theta, 1 / self.count)
        return (theta - self.mean).square().sum()
