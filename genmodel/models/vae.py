"""A convolutional variational autoencoder: Kingma & Welling 2014, with a likelihood of discrete pixels.

q(z|x) is a diagonal Gaussian (eq. 9), the prior N(0, 1), and p(x|z) a logistic distribution over the 256 levels of
every colour value (Salimans et al. 2017, eq. 2) around the decoder's image, with one learned scale per channel.
So negative_elbo bounds -log p of the uint8 image itself, and its bits/dim can be compared with other models'.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.models.abilities import Bounds, Inverts, Reconstructs, Weighted
from genmodel.models.contract import Adam, Family, ImageSpec, Noise, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.convolution import Down, Up, base_map
from genmodel.models.parts.losses import bits_per_dim, discretised_logistic_nll, gaussian_kl, widened
from genmodel.pixels import to_model
from genmodel.settings.config import Count, Positive


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    latent_dim: Count = 100
    base_channels: Count = 64  # of the widest map; doubled at each halving
    learning_rate: Positive = 1.0e-3
    beta: Positive = 1.0  # weight of the rate in training (Higgins et al. 2017, eq. 4); not in figures


class Encoder(nn.Module):
    """images [N, C, H, W] -> mu, logvar [N, latent_dim] each."""

    def __init__(self, config: VAEConfig, spec: ImageSpec) -> None:
        super().__init__()
        base, times = base_map(spec.size, "vae")
        widths = [config.base_channels * 2**k for k in range(times)]
        layers: list[nn.Module] = []
        for before, after in zip([spec.channels, *widths], widths, strict=False):
            layers += [Down(before, after), nn.SiLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(base.height * base.width * widths[-1], 2 * config.latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = widened(self.head(self.layers(images).flatten(1))).chunk(2, dim=1)
        return mu, logvar.clamp(-14, 8)  # exp stays finite even in the first steps


class Decoder(nn.Module):
    """z [N, latent_dim] -> the mean image [N, C, H, W] in [-1, 1]."""

    def __init__(self, config: VAEConfig, spec: ImageSpec) -> None:
        super().__init__()
        self.base, times = base_map(spec.size, "vae")
        widths = [config.base_channels * 2**k for k in reversed(range(times))]
        self.project = nn.Linear(config.latent_dim, self.base.height * self.base.width * widths[0])
        layers: list[nn.Module] = [nn.SiLU(inplace=True)]
        for before, after in zip(widths, [*widths[1:], spec.channels], strict=True):
            layers += [Up(before, after), nn.SiLU(inplace=True)]
        layers[-1] = nn.Tanh()
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        projected = self.project(z).view(z.shape[0], *self.base, -1).permute(0, 3, 1, 2)
        images: Tensor = self.layers(projected)
        return images


class VAE(Family, Bounds, Weighted, Reconstructs, Inverts):
    Config: ClassVar[type] = VAEConfig
    clock: ClassVar[Literal["linear", "log"]] = "log"

    def __init__(self, config: VAEConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((normal(config.latent_dim),))
        self.encoder = Encoder(config, spec)
        self.decoder = Decoder(config, spec)
        self.log_scale = nn.Parameter(torch.empty(spec.channels, 1, 1))

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "vae")

    def initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_normal_(module.weight, generator=rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # codes start near the prior, pixels uncertain by about 25 levels
        nn.init.normal_(self.encoder.head.weight, 0, 0.01, generator=rng)
        nn.init.constant_(self.log_scale, -1.6)

    def players(self) -> Sequence[Player]:
        return [Player("vae", [self], Adam(lr=self.config.learning_rate))]

    def updates(self) -> Sequence[Update]:
        return [Update("vae", self._loss)]

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        terms = {name: value.mean() for name, value in self.negative_elbo(step.batch.images, step.noise).items()}
        loss = terms["distortion"] + self.config.beta * terms["rate"]
        return loss, {f"loss/{name}": value.detach() for name, value in terms.items()}

    def negative_elbo(self, images: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Bits/dim of each image: `negative_elbo` = `distortion` + `rate`, one sample of z; float [N] each."""
        mu, logvar = self.encoder(images)
        z = mu + (0.5 * logvar).exp() * noise.of(self.space, len(mu))
        mean = widened(self.decoder(z))
        dimensions = images[0].numel()
        distortion = bits_per_dim(discretised_logistic_nll(images, mean, widened(self.log_scale)), dimensions)
        rate = bits_per_dim(gaussian_kl(mu, logvar), dimensions)
        return {"negative_elbo": distortion + rate, "distortion": distortion, "rate": rate}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of p(x|z): the image without its pixel noise."""
        images: Tensor = self.decoder(noise)
        return images

    def bound(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        return self.negative_elbo(to_model(images), Noise(rng))["negative_elbo"]

    def weighted_bound(self, images: Tensor, labels: Tensor, rng: torch.Generator, samples: int) -> Tensor:
        """-log2 of the mean of p(x|z) p(z) / q(z|x) over `samples` draws from q(z|x), one draw in memory at a time."""
        inputs = to_model(images)
        mu, logvar = self.encoder(inputs)
        total = torch.full((len(images),), -math.inf, dtype=torch.float64, device=mu.device)
        for _ in range(samples):
            noise = torch.randn(mu.shape, generator=rng, device=mu.device)
            z = mu + (0.5 * logvar).exp() * noise
            nll = discretised_logistic_nll(inputs, self.decoder(z).float(), self.log_scale.float())
            prior_over_posterior = 0.5 * (noise.square() + logvar - z.square()).sum(dim=1)
            total = torch.logaddexp(total, prior_over_posterior.double() - nll.double())
        return bits_per_dim(math.log(samples) - total, inputs[0].numel())

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        mu, _ = self.encoder(to_model(images))
        noise: Tensor = mu
        return noise

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.sample(self.encode(images, labels))
