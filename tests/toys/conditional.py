"""Conditional, of noise of all kinds: a generator with an embedding of the class, drawn to the mean of images."""

from collections.abc import Sequence

import torch
from torch import Tensor

from genmodel.models.abilities import Inverts
from genmodel.models.contract import Adam, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, categorical, normal, uniform
from toys.layers import NoSettings, Pixels, ToyFamily


class Toy(ToyFamily, Inverts):
    def __init__(self, config: NoSettings, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.classes = spec.classes
        self.space = Space((normal(2), uniform(1, 2), categorical(3)))
        self.project, self.shade = torch.nn.Linear(4, 8), torch.nn.Embedding(3, 8)
        self.embed, self.decoder = torch.nn.Embedding(spec.classes, 8), Pixels(8, spec)

    def players(self) -> Sequence[Player]:
        return [Player("generator", [self], Adam(lr=1e-2))]

    def updates(self) -> Sequence[Update]:
        return [Update("generator", self._loss)]

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        known = step.batch.labels.clamp(min=0)
        loss = (self.sample(step.noise.of(self.space, len(known)), known) - step.batch.images).square().mean()
        return loss, {"loss/generator": loss.detach()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        first, second, shade = self.space.split(noise)
        hidden = self.project(torch.cat([first, second.flatten(1)], dim=1))
        images: Tensor = self.decoder(hidden + self.embed(labels) + self.shade(shade[:, 0].long()))
        return images
