"""Begun by data: the scale of its code comes of the first images, some of which it keeps as a reference batch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genmodel.models.abilities import Bounds
from genmodel.models.contract import Adam, Batch, ImageSpec, Noise, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.losses import bits_per_dim, discretised_logistic_nll, gaussian_kl
from genmodel.pixels import to_model
from toys.layers import NoSettings, Pixels, Summary, ToyFamily


class Toy(ToyFamily, Bounds):
    first_images = 20

    def __init__(self, config: NoSettings, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((normal(5),))
        self.encoder, self.decoder = Summary(10, spec), Pixels(5, spec)
        self.scale = nn.Parameter(torch.ones(10))
        self.register_buffer("reference", torch.zeros(4, spec.channels, *spec.size))

    def begin(self, batch: Batch) -> None:
        self.reference.copy_(batch.images[:4])
        self.scale.copy_(0.1 / self.encoder(batch.images - self.reference.mean(0)).std(0).clamp(min=1e-3))

    def players(self) -> Sequence[Player]:
        return [Player("vae", [self], Adam(lr=1e-3))]

    def updates(self) -> Sequence[Update]:
        return [Update("vae", self._loss)]

    def _bits(self, images: Tensor, noise: Noise) -> Tensor:
        mu, logvar = (self.scale * self.encoder(images - self.reference.mean(0))).chunk(2, dim=1)
        z = mu + (0.5 * logvar).exp() * noise.of(self.space, len(mu))
        nats = discretised_logistic_nll(images, self.decoder(z), torch.full((), -2.0)) + gaussian_kl(mu, logvar).sum(
            dim=1
        )
        return bits_per_dim(nats, images[0].numel())

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._bits(step.batch.images, step.noise).mean()
        return loss, {"loss/negative_elbo": loss.detach()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.decoder(noise)
        return images

    def bound(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        return self._bits(to_model(images), Noise(rng))
