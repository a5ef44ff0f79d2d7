"""Categorical codes beside uniform ones, which a third head of the discriminator's trunk must find again (InfoGAN)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodel.models.abilities import Inverts
from genmodel.models.contract import Adam, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, categorical, uniform
from genmodel.models.parts.losses import discriminator_loss, frozen, non_saturating_loss
from toys.layers import NoSettings, Pixels, Summary, ToyFamily


class Toy(ToyFamily, Inverts):
    def __init__(self, config: NoSettings, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((uniform(4), categorical(3)))
        self.generator = Pixels(4 + 3, spec)
        self.discriminator, self.finder = Summary(1, spec), Summary(3, spec)

    def players(self) -> Sequence[Player]:
        return [
            Player("discriminator", [self.discriminator], Adam(lr=1e-3, betas=(0.5, 0.999))),
            Player("generator", [self.generator, self.finder], Adam(lr=1e-3, betas=(0.5, 0.999))),
        ]

    def updates(self) -> Sequence[Update]:
        return [Update("discriminator", self._critic), Update("generator", self._maker, new_batch=False)]

    def _critic(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        _, fakes = step.keep("drawn", lambda: self._drawn(step))
        loss = discriminator_loss(self.discriminator(step.batch.images), self.discriminator(fakes.detach()))
        return loss, {"loss/discriminator": loss.detach()}

    def _maker(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        noise, fakes = step.take("drawn", lambda: self._drawn(step))
        choices = self.space.split(noise)[1][:, 0].long()
        with frozen(self.discriminator):
            fooled = non_saturating_loss(self.discriminator(fakes))
        found = F.cross_entropy(self.finder(fakes), choices)
        return fooled + found, {"loss/generator": fooled.detach(), "loss/code": found.detach()}

    def _drawn(self, step: Step) -> tuple[Tensor, Tensor]:
        noise = step.noise.of(self.space, len(step.batch.images))
        return noise, self.sample(noise)

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        plain, choice = self.space.split(noise)
        code = F.one_hot(choice[:, 0].long(), 3).to(plain.dtype)
        images: Tensor = self.generator(torch.cat([plain, code], dim=1))
        return images
