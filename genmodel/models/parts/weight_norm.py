"""Weight normalisation with data-dependent initialisation: Salimans & Kingma 2016, sections 2 and 3."""

import contextlib
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEAST = 1e-3  # deviation of an output that is scaled up to 1; the outputs of equal images differ less


class WeightNorm(nn.Module):
    """A linear or convolutional layer whose weights are scale * v / |v| for each output; v is the layer's own weight.

    The scale is trained or only initialised: a discriminator whose outputs cannot grow stays near its data.
    """

    def __init__(self, layer: nn.Linear | nn.Conv2d, learn_scale: bool = False) -> None:
        super().__init__()
        self.layer = layer
        scale = torch.ones(len(layer.weight))
        self.scale: Tensor
        if learn_scale:
            self.scale = nn.Parameter(scale)
        else:
            self.register_buffer("scale", scale)

    def initialise(self, rng: torch.Generator) -> None:
        """The size of v does not count, but how fast it turns: the larger, the slower."""
        nn.init.normal_(self.layer.weight, 0, 0.1 if isinstance(self.layer, nn.Linear) else 0.05, generator=rng)
        nn.init.zeros_(self.bias)

    def forward(self, values: Tensor) -> Tensor:
        """Scaled is what is smaller: the weights of a convolution, the outputs of a linear layer."""
        v = self.direction
        scale = self.scale / v.flatten(1).norm(dim=1)
        if isinstance(self.layer, nn.Conv2d):
            weight = v * scale[:, None, None, None]
            return F.conv2d(values, weight, self.bias, self.layer.stride, self.layer.padding)
        output: Tensor = F.linear(values, v) * scale + self.bias
        return output

    @property
    def direction(self) -> Tensor:
        """v."""
        return self.layer.weight

    @property
    def bias(self) -> Tensor:
        assert self.layer.bias is not None
        return self.layer.bias

    @torch.no_grad()
    def fit(self, output: Tensor) -> Tensor:
        """Set scale and bias so that each output has mean 0 and variance 1 (eq. 6); returns `output` as it becomes."""
        deviation, mean = torch.std_mean(output, (0, *range(2, output.ndim)), correction=0)
        deviation = deviation.clamp(min=_LEAST)
        self.scale.div_(deviation)
        self.bias.sub_(mean).div_(deviation)
        place = (slice(None), *[None] * (output.ndim - 2))
        return (output - mean[place]) / deviation[place]


@contextlib.contextmanager
def fitting(network: nn.Module) -> Iterator[None]:
    """Each weight-normalised layer of `network` is fitted to the outputs that it first gives inside, and hands on what
    they become: data-dependent initialisation, the first layer first."""
    layers = [module for module in network.modules() if isinstance(module, WeightNorm)]
    hooks = [layer.register_forward_hook(lambda each, _, output: each.fit(output)) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
