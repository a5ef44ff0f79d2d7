"""Minibatch discrimination: Salimans et al. 2016, section 3.2. A discriminator that sees how near the images of a batch
are to each other notices a generator that always draws the same one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

_NEAREST = 2.0  # mean distance of an image to its nearest one that `fit` gives each kernel: exp(-2) is far from 0 and 1


class MinibatchDiscrimination(nn.Module):
    """Features [N, features] -> o(x) [N, kernels], the sums over the batch of exp(-|M_b(x) - M_b(other)|), M = f T.

    The distances are L1 over the `dimensions` of each kernel; the sum counts the image itself, which adds 1.
    """

    def __init__(self, features: int, kernels: int, dimensions: int) -> None:
        super().__init__()
        self.shape = (kernels, dimensions)
        self.kernels = nn.Parameter(torch.empty(features, kernels, dimensions))  # the paper's T
        self.usual: Tensor  # the running mean of o(x) over real images
        self.register_buffer("usual", torch.ones(kernels))

    def initialise(self, rng: torch.Generator) -> None:
        nn.init.normal_(self.kernels, 0, len(self.kernels) ** -0.5, generator=rng)

    def forward(self, features: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
        """`gather` gives the rows of all processes: the batch is the whole one."""
        return (-self._apart(features, gather)).exp().sum(dim=1)

    def alone(self, features: Tensor) -> Tensor:
        """For images that are judged one by one: what the batches of a training usually told, [N, kernels]."""
        return self.usual.expand(features.shape[0], -1)

    @torch.no_grad()
    def follow(self, closeness: Tensor, gather: Callable[[Tensor], Tensor]) -> None:
        """Move the running mean towards o(x) of a batch of real images, [N, kernels]."""
        self.usual.lerp_(gather(closeness.mean(0, keepdim=True)).mean(0), 0.1)

    @torch.no_grad()
    def fit(self, features: Tensor) -> None:
        """Scale each kernel to the features of a batch, as the authors' code does: those of deep networks differ by far
        more than exp can tell apart."""
        apart = self._apart(features, lambda rows: rows)
        itself = torch.eye(len(features), dtype=torch.bool, device=apart.device)[:, :, None]
        nearest = apart.masked_fill(itself, torch.inf).amin(dim=1).mean(0).clamp(min=1e-3)
        self.kernels.mul_((_NEAREST / nearest)[:, None])

    def _apart(self, features: Tensor, gather: Callable[[Tensor], Tensor]) -> Tensor:
        """Distances by each kernel, [N, all N, kernels]."""
        projected = (features @ self.kernels.flatten(1)).view(-1, *self.shape)
        projected = projected.to(torch.promote_types(projected.dtype, torch.float32))
        return (projected[:, None] - gather(projected)[None]).abs().sum(dim=3)
