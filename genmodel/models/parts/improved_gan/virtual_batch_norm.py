"""Virtual batch normalisation: Salimans et al. 2016, section 3.5. An image does not depend on the others of its batch,
in training as in sampling, as it is normalised with a reference batch that never changes."""

import torch
from torch import Tensor, nn


class VirtualBatchNorm(nn.Module):
    """[reference + N, C] or [reference + N, C, H, W], the reference batch first -> the same shape.

    The reference is normalised by its own mean and variance; each other row by those of the reference and itself, which
    count as 1 of reference + 1.
    """

    def __init__(self, channels: int, reference: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.reference, self.eps = reference, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, values: Tensor) -> Tensor:
        wide = values.to(torch.promote_types(values.dtype, torch.float32))
        known, rest = wide[: self.reference], wide[self.reference :]
        inner = tuple(range(2, values.ndim))
        known_variance, known_mean = torch.var_mean(known, (0, *inner), correction=0, keepdim=True)
        own_mean = rest.mean(inner, keepdim=True) if inner else rest
        own_variance = (rest - own_mean).square().mean(inner, keepdim=True) if inner else torch.zeros_like(rest)
        share = 1 / (self.reference + 1)
        mean = (1 - share) * known_mean + share * own_mean
        variance = (1 - share) * (known_variance + (known_mean - mean).square())
        variance = variance + share * (own_variance + (own_mean - mean).square())
        known = (known - known_mean) * (known_variance + self.eps).rsqrt()
        rest = (rest - mean) * (variance + self.eps).rsqrt()
        place = (slice(None), *[None] * len(inner))
        normalised: Tensor = torch.cat([known, rest]) * self.weight[place] + self.bias[place]
        return normalised.to(values.dtype)
