"""Generators and discriminators of two kinds, fully connected and of strided convolutions, with the parts that
improved_gan switches on and off."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodel.models.contract import ImageSpec, Noise, Step
from genmodel.models.parts.convolution import Up, base_map
from genmodel.models.parts.improved_gan.minibatch import MinibatchDiscrimination
from genmodel.models.parts.improved_gan.virtual_batch_norm import VirtualBatchNorm
from genmodel.models.parts.weight_norm import WeightNorm


class Generator(nn.Module):
    """z [N, latent_dim] in [-1, 1] -> images [N, C, H, W] in [-1, 1], through `layers`.

    With `reference` above 0 its normalisation is virtual, with that many codes, drawn once.
    """

    def __init__(self, layers: nn.Module, shape: Sequence[int], latent_dim: int, reference: int) -> None:
        super().__init__()
        self.layers, self.shape = layers, shape
        self.reference: Tensor
        self.register_buffer("reference", torch.zeros(reference, latent_dim))

    def forward(self, z: Tensor) -> Tensor:
        made: Tensor = self.layers(torch.cat([self.reference.to(z.dtype), z]))
        return made[len(self.reference) :].reshape(-1, *self.shape)


def dense_generator(width: int, latent_dim: int, reference: int, spec: ImageSpec) -> Generator:
    """Two hidden layers of `width`, softplus, pixels by a sigmoid."""
    shape = (spec.channels, *spec.size)
    layers: list[nn.Module] = []
    for before, after in ((latent_dim, width), (width, width)):
        norm = VirtualBatchNorm(after, reference) if reference else nn.BatchNorm1d(after)
        layers += [nn.Linear(before, after, bias=False), norm, nn.Softplus()]
    layers += [WeightNorm(nn.Linear(width, math.prod(shape)), learn_scale=True), Pixels()]
    return Generator(nn.Sequential(*layers), shape, latent_dim, reference)


def strided_generator(base_channels: int, latent_dim: int, reference: int, spec: ImageSpec) -> Generator:
    """As DCGAN's: a linear map to the smallest map, then each layer doubles the side; ReLU, pixels by a sigmoid."""
    base, times = base_map(spec.size, "improved_gan")
    widths = [base_channels * 2**k for k in reversed(range(times))]

    def normed(width: int) -> list[nn.Module]:
        norm = VirtualBatchNorm(width, reference) if reference else nn.BatchNorm2d(width)
        return [norm, nn.ReLU(inplace=True)]

    project = nn.Linear(latent_dim, widths[0] * base.height * base.width, bias=False)
    layers = [project, nn.Unflatten(1, (widths[0], *base)), *normed(widths[0])]
    for wide, narrow in itertools.pairwise(widths):
        layers += [Up(wide, narrow, bias=False), *normed(narrow)]
    layers += [Up(widths[-1], spec.channels), Pixels()]
    return Generator(nn.Sequential(*layers), (spec.channels, *spec.size), latent_dim, reference)


class Pixels(nn.Module):
    """Logits -> colour values in [-1, 1]: those of a sigmoid, which are in [0, 1], in the models' range."""

    def forward(self, logits: Tensor) -> Tensor:
        return (0.5 * logits).tanh()


class Discriminator(nn.Module):
    """images [N, C, H, W] -> features [N, ...] of the last hidden layer, and logits [N, outputs].

    Each hidden layer is weight-normalised. Noise is added to the pixels, as values in [0, 1], and to the output of each
    hidden layer; not where `step` is None, as when a finished model classifies.
    """

    def __init__(
        self,
        hidden: Sequence[nn.Module],
        features: int,
        outputs: int,
        noise: tuple[float, float],
        minibatch: MinibatchDiscrimination | None,
    ) -> None:
        super().__init__()
        self.hidden, self.noise, self.minibatch = nn.ModuleList(hidden), noise, minibatch
        more = minibatch.shape[0] if minibatch else 0
        self.head = WeightNorm(nn.Linear(features + more, outputs), learn_scale=True)

    def forward(self, images: Tensor, step: Step | None, real: bool = False) -> tuple[Tensor, Tensor]:
        noise = step.noise if step else None
        features = noisy(0.5 * (images + 1), self.noise[0], noise)
        for number, layer in enumerate(self.hidden):
            if number:
                features = noisy(features, self.noise[1], noise)
            features = layer(features)
        features = features.flatten(1)
        seen = noisy(features, self.noise[1], noise)
        if self.minibatch is not None:
            seen = torch.cat([seen, self._closeness(seen, step, real).to(seen.dtype)], dim=1)
        return features, self.head(seen)

    def _closeness(self, features: Tensor, step: Step | None, real: bool) -> Tensor:
        assert self.minibatch is not None
        if step is None:
            return self.minibatch.alone(features)
        closeness: Tensor = self.minibatch(features, step.gather)
        if real:
            self.minibatch.follow(closeness, step.gather)
        return closeness

    @torch.no_grad()
    def fit(self, images: Tensor, step: Step) -> None:
        """Data-dependent initialisation: each layer is scaled to what these images give it, the first one first."""
        normed = [module for module in self.modules() if isinstance(module, WeightNorm)]
        hooks = [layer.register_forward_hook(lambda each, _, output: each.fit(output)) for layer in normed]
        if self.minibatch is not None:
            hooks.append(self.minibatch.register_forward_pre_hook(lambda each, given: each.fit(given[0])))
        self(images, step, real=True)
        for hook in hooks:
            hook.remove()


def dense_layers(width: int, spec: ImageSpec) -> tuple[list[nn.Module], int]:
    """Hidden layers of a discriminator, and how many features the last one gives: `width`, half, and thrice a quarter
    of it; ReLU."""
    widths = [math.prod(spec.size) * spec.channels, width, *(max(1, width // part) for part in (2, 4, 4, 4))]
    layers: list[nn.Module] = [
        nn.Sequential(nn.Flatten(), WeightNorm(nn.Linear(before, after)), nn.ReLU(inplace=True))
        for before, after in itertools.pairwise(widths)
    ]
    return layers, widths[-1]


def strided_layers(base_channels: int, spec: ImageSpec) -> tuple[list[nn.Module], int]:
    """As `dense_layers`: each halves the side, down to the smallest map, and doubles the channels; LeakyReLU(0.2)."""
    base, times = base_map(spec.size, "improved_gan")
    widths = [spec.channels, *(base_channels * 2**k for k in range(times))]
    layers: list[nn.Module] = [
        nn.Sequential(WeightNorm(nn.Conv2d(before, after, 4, 2, 1)), nn.LeakyReLU(0.2, inplace=True))
        for before, after in itertools.pairwise(widths)
    ]
    return layers, widths[-1] * base.height * base.width


def noisy(values: Tensor, deviation: float, noise: Noise | None) -> Tensor:
    """`values` [N, ...] and normal noise of that deviation, where there is noise to draw."""
    if noise is None or deviation == 0:
        return values

    def draw(count: int, rng: torch.Generator) -> Tensor:
        return torch.randn(count, *values.shape[1:], generator=rng, device=rng.device)

    return values + (deviation * noise.rows(len(values), draw)).to(values.dtype)


def initialise(network: nn.Module, rng: torch.Generator) -> None:
    """Draw all weights: from N(0, 0.05), but where a layer's own rule says otherwise."""
    for module in network.children():
        if isinstance(module, WeightNorm | MinibatchDiscrimination):
            module.initialise(rng)
            continue
        if isinstance(module, nn.Linear | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, 0.05, generator=rng)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        if isinstance(module, Generator):
            module.reference.uniform_(-1, 1, generator=rng)
        initialise(module, rng)
