"""A convolutional variational autoencoder: Kingma & Welling 2014, with a likelihood of discrete pixels.

q(z|x) is a diagonal Gaussian (eq. 9), the prior N(0, 1), and p(x|z) a logistic distribution over the 256 levels of
every colour value (Salimans et al. 2017, eq. 2) around the decoder's image, with one learned scale per channel.
So negative_elbo bounds -log p of the uint8 image itself, and bits/dim may stand beside those of other models.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.adam import Adam
from genmodel.models.base import GenerativeModel, Noise, Phase, doublings
from genmodel.models.convolution import Down, Up
from genmodel.models.losses import bits_per_dim, discretised_logistic_nll, gaussian_kl, widened
from genmodel.pixels import to_model
from genmodel.settings import Count, Positive


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    latent_dim: Count = 100
    base_channels: Count = 64  # of the widest map; doubled at each halving
    learning_rate: Positive = 1.0e-3
    beta: Positive = 1.0  # weight of the rate in training (Higgins et al. 2017, eq. 4); figures never carry it


class Encoder(nn.Module):
    """images [N, 3, S, S] -> mu, logvar [N, latent_dim] each."""

    def __init__(self, config: VAEConfig, image_size: int) -> None:
        super().__init__()
        widths = [config.base_channels * 2**k for k in range(doublings(image_size, "vae"))]
        layers: list[nn.Module] = []
        for before, after in zip([3, *widths], widths, strict=False):
            layers += [Down(before, after), nn.SiLU(inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(4 * 4 * widths[-1], 2 * config.latent_dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = widened(self.head(self.layers(images).flatten(1))).chunk(2, dim=1)
        return mu, logvar.clamp(-14, 8)  # exp stays finite whatever the first steps bring


class Decoder(nn.Module):
    """z [N, latent_dim] -> the mean image [N, 3, S, S] in [-1, 1]."""

    def __init__(self, config: VAEConfig, image_size: int) -> None:
        super().__init__()
        widths = [config.base_channels * 2**k for k in reversed(range(doublings(image_size, "vae")))]
        self.project = nn.Linear(config.latent_dim, 4 * 4 * widths[0])
        layers: list[nn.Module] = [nn.SiLU(inplace=True)]
        for before, after in zip(widths, [*widths[1:], 3], strict=True):
            layers += [Up(before, after), nn.SiLU(inplace=True)]
        layers[-1] = nn.Tanh()
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        projected = self.project(z).view(z.shape[0], 4, 4, -1).permute(0, 3, 1, 2)
        images: Tensor = self.layers(projected)
        return images


class VAE(GenerativeModel):
    Config: ClassVar[type] = VAEConfig
    has_likelihood: ClassVar[bool] = True
    replay_clock: ClassVar[Literal["linear", "log"]] = "log"

    def __init__(self, config: VAEConfig, image_size: int) -> None:
        super().__init__(config, image_size)
        self.encoder = Encoder(config, image_size)
        self.decoder = Decoder(config, image_size)
        self.log_scale = nn.Parameter(torch.empty(3, 1, 1))
        self._optimizers: dict[str, torch.optim.Optimizer] = {}

    def initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.xavier_normal_(module.weight, generator=rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        # codes start near the prior and pixels uncertain: about 25 levels
        nn.init.normal_(self.encoder.head.weight, 0, 0.01, generator=rng)
        nn.init.constant_(self.log_scale, -1.6)

    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        if not self._optimizers:
            self._optimizers = {"vae": Adam(self.parameters(), self.config.learning_rate, fused=True)}
        return self._optimizers

    def negative_elbo(self, images: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Bits/dim of each image: `negative_elbo` = `distortion` + `rate`, one sample of z; float [N] each."""
        mu, logvar = self.encoder(images)
        z = mu + (0.5 * logvar).exp() * noise.rows(len(mu), self.draw_codes)
        mean = widened(self.decoder(z))
        dimensions = images[0].numel()
        distortion = bits_per_dim(discretised_logistic_nll(images, mean, widened(self.log_scale)), dimensions)
        rate = bits_per_dim(gaussian_kl(mu, logvar), dimensions)
        return {"negative_elbo": distortion + rate, "distortion": distortion, "rate": rate}

    def phases(self) -> Sequence[Phase]:
        return [Phase("vae", self, self._loss)]

    def _loss(self, images: Tensor, noise: Noise) -> tuple[Tensor, dict[str, Tensor]]:
        terms = {name: value.mean() for name, value in self.negative_elbo(images, noise).items()}
        loss = terms["distortion"] + self.config.beta * terms["rate"]
        return loss, {f"loss/{name}": value.detach() for name, value in terms.items()}

    @property
    def averaged(self) -> nn.Module:
        return self

    def draw_codes(self, n: int, rng: torch.Generator) -> Tensor:
        return torch.randn(n, self.latent_dim, generator=rng, device=rng.device)

    def generate(self, z: Tensor) -> Tensor:
        """The mean of p(x|z): the image without its pixel noise."""
        images: Tensor = self.decoder(z)
        return images

    def bits_per_dim(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        terms = self.negative_elbo(to_model(images), Noise(rng))
        return {"bits_per_dim": terms["negative_elbo"], "distortion": terms["distortion"], "rate": terms["rate"]}

    def importance_weighted_bits(self, images: Tensor, rng: torch.Generator, samples: int) -> Tensor:
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

    def reconstruct(self, images: Tensor) -> Tensor:
        mu, _ = self.encoder(to_model(images))
        return self.generate(mu)
