"""A convolutional variational autoencoder: Kingma & Welling 2014, with a likelihood of discrete pixels.

q(z|x) is a diagonal Gaussian (eq. 9), the prior N(0, 1), and p(x|z) a logistic distribution over the 256 levels of
every colour value (Salimans et al. 2017, eq. 2) around the decoder's image, with one learned scale per channel; or by
setting a mixture of logistics of the decoder's own, their scales included. So negative_elbo bounds -log p of the uint8
image itself, and its bits/dim can be compared with other models'.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.models.abilities import Bounds, Inverts, Reconstructs, Weighted
from genmodel.models.contract import Adam, Family, ImageSpec, Noise, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.convolution import Down, Up, base_map
from genmodel.models.parts.labels import LabelEmbedding
from genmodel.models.parts.latent.decoded import PixelLikelihood, decoded_image, decoded_nll, decoded_width
from genmodel.models.parts.losses import bits_per_dim, free_bits, gaussian_kl, widened
from genmodel.pixels import to_model
from genmodel.settings.config import Count, Positive, Range
from genmodel.settings.schedule import Schedule, Scheduled


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    latent_dim: Count = 100
    base_channels: Count = 64  # of the widest map; doubled at each halving
    learning_rate: Positive = 1.0e-3
    beta: Annotated[float | Schedule, Range(0)] = 1.0  # weight of the rate in training (Higgins et al. 2017, eq. 4)
    free_bits: Annotated[float, Range(0)] = 0.0  # nats of each number of z whose rate does not count in training
    likelihood: PixelLikelihood = "logistic"
    components: Count = 5  # of a mixture
    residual_blocks: Annotated[int, Range(0)] = 0  # after each halving and before each doubling
    conditional: bool = False  # images of a class can be asked for


class Residual(nn.Module):
    """Maps and what two 3x3 convolutions make of them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, maps: Tensor) -> Tensor:
        made: Tensor = maps + self.second(F.silu(self.first(F.silu(maps))))
        return made


class Encoder(nn.Module):
    """images [N, C, H, W], labels [N] if conditional -> mu, logvar [N, latent_dim] each."""

    def __init__(self, config: VAEConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        base, times = base_map(spec.size, "vae")
        widths = [config.base_channels * 2**k for k in range(times)]
        layers: list[nn.Module] = []
        for before, after in zip([spec.channels, *widths], widths, strict=False):
            layers += [Down(before, after), nn.SiLU(inplace=True), *_blocks(config, after)]
        self.layers = nn.Sequential(*layers)
        self.embedding = LabelEmbedding(classes, config.latent_dim) if classes else None
        found = base.height * base.width * widths[-1] + (config.latent_dim if classes else 0)
        self.head = nn.Linear(found, 2 * config.latent_dim)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        found = self.layers(images).flatten(1)
        if self.embedding is not None:
            found = torch.cat([found, self.embedding(labels)], dim=1)
        mu, logvar = widened(self.head(found)).chunk(2, dim=1)
        return mu, logvar.clamp(-14, 8)  # exp stays finite even in the first steps


class Decoder(nn.Module):
    """z [N, latent_dim], labels [N] if conditional -> maps of p(x|z) [N, ..., H, W] (parts/latent/decoded.py)."""

    def __init__(self, config: VAEConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        self.base, times = base_map(spec.size, "vae")
        widths = [config.base_channels * 2**k for k in reversed(range(times))]
        self.embedding = LabelEmbedding(classes, config.latent_dim) if classes else None
        code = config.latent_dim * (2 if classes else 1)
        self.project = nn.Linear(code, self.base.height * self.base.width * widths[0])
        layers: list[nn.Module] = [nn.SiLU(inplace=True)]
        for before, after in itertools.pairwise(widths):
            layers += [*_blocks(config, before), Up(before, after), nn.SiLU(inplace=True)]
        maps = decoded_width(config.likelihood, spec.channels, config.components)
        layers += [*_blocks(config, widths[-1]), Up(widths[-1], maps)]
        if config.likelihood == "logistic":
            layers.append(nn.Tanh())
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], dim=1)
        projected = self.project(z).view(z.shape[0], *self.base, -1).permute(0, 3, 1, 2)
        maps: Tensor = self.layers(projected)
        return maps


def _blocks(config: VAEConfig, channels: int) -> list[nn.Module]:
    return [Residual(channels) for _ in range(config.residual_blocks)]


def _bits(nll: Tensor, rates: Tensor, images: Tensor) -> dict[str, Tensor]:
    distortion, rate = (bits_per_dim(nats, images[0].numel()) for nats in (nll, rates.sum(dim=1)))
    return {"negative_elbo": distortion + rate, "distortion": distortion, "rate": rate}


class VAE(Family, Bounds, Weighted, Reconstructs, Inverts):
    Config: ClassVar[type] = VAEConfig
    clock: ClassVar[Literal["linear", "log"]] = "log"

    def __init__(self, config: VAEConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        if config.conditional and not spec.classes:
            raise ConfigError("vae: the images have no classes; set network.conditional to false")
        self.classes = spec.classes if config.conditional else 0
        self.space = Space((normal(config.latent_dim),))
        self.encoder = Encoder(config, spec, self.classes)
        self.decoder = Decoder(config, spec, self.classes)
        self.log_scale = nn.Parameter(torch.empty(spec.channels, 1, 1)) if config.likelihood == "logistic" else None

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "vae")

    def initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_normal_(module.weight, generator=rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            if isinstance(module, LabelEmbedding):
                nn.init.normal_(module.weight, generator=rng)
        for module in self.modules():
            if isinstance(module, Residual):  # begins as the identity
                nn.init.zeros_(module.second.weight)
        # codes start near the prior, pixels uncertain by about 25 levels
        nn.init.normal_(self.encoder.head.weight, 0, 0.01, generator=rng)
        if self.log_scale is not None:
            nn.init.constant_(self.log_scale, -1.6)

    def players(self) -> Sequence[Player]:
        return [Player("vae", [self], Adam(lr=self.config.learning_rate))]

    def updates(self) -> Sequence[Update]:
        return [Update("vae", self._loss)]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"beta": self.config.beta}

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        images = step.batch.images
        nll, rates = self._nats(images, step.batch.labels, step.noise)
        terms = {name: value.mean() for name, value in _bits(nll, rates, images).items()}
        charged = bits_per_dim(free_bits(rates, self.config.free_bits, step.gather), images[0].numel())
        loss = terms["distortion"] + step.knobs["beta"] * charged
        return loss, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def negative_elbo(self, images: Tensor, noise: Noise, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Bits/dim of each image: `negative_elbo` = `distortion` + `rate`, one sample of z; float [N] each."""
        return _bits(*self._nats(images, labels, noise), images)

    def _nats(self, images: Tensor, labels: Tensor | None, noise: Noise) -> tuple[Tensor, Tensor]:
        """With one sample of z for each image: -log p(x|z) [N], and the rate of each number of z [N, latent_dim]."""
        mu, logvar = self.encoder(images, labels)
        z = mu + (0.5 * logvar).exp() * noise.of(self.space, len(mu))
        return decoded_nll(images, self.decoder(z, labels), self.log_scale), gaussian_kl(mu, logvar)

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of p(x|z): the image without its pixel noise."""
        return decoded_image(self.decoder(noise, labels), self.spec.channels, self.config.likelihood)

    def bound(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        return self.negative_elbo(to_model(images), Noise(rng), labels)["negative_elbo"]

    def weighted_bound(self, images: Tensor, labels: Tensor, rng: torch.Generator, samples: int) -> Tensor:
        """-log2 of the mean of p(x|z) p(z) / q(z|x) over `samples` draws from q(z|x), one draw in memory at a time."""
        inputs = to_model(images)
        mu, logvar = self.encoder(inputs, labels)
        total = torch.full((len(images),), -math.inf, dtype=torch.float64, device=mu.device)
        for _ in range(samples):
            noise = torch.randn(mu.shape, generator=rng, device=mu.device)
            z = mu + (0.5 * logvar).exp() * noise
            nll = decoded_nll(inputs, self.decoder(z, labels), self.log_scale)
            prior_over_posterior = 0.5 * (noise.square() + logvar - z.square()).sum(dim=1)
            total = torch.logaddexp(total, prior_over_posterior.double() - nll.double())
        return bits_per_dim(math.log(samples) - total, inputs[0].numel())

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        mu, _ = self.encoder(to_model(images), labels)
        noise: Tensor = mu
        return noise

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.sample(self.encode(images, labels), labels)
