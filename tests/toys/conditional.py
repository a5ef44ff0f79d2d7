"""A small conditional family, for tests: a generator with an embedding of the class, drawn to the mean of images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.models.contract import Adam, Family, ImageSpec, Player, Step, Update
from genmodel.noise import Space, categorical, normal, uniform
from genmodel.settings import Count, Positive

SHADES = 3


@dataclass(frozen=True, kw_only=True)
class ConditionalConfig:
    width: Count = 8
    learning_rate: Positive = 0.01


class Conditional(Family):
    Config: ClassVar[type] = ConditionalConfig
    clock: ClassVar[Literal["linear", "log"]] = "log"

    def __init__(self, config: Any, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.classes = spec.classes
        self.space = Space((normal(2), uniform(1, 2), categorical(SHADES)))
        self.embed = nn.Embedding(spec.classes, config.width)
        self.shade = nn.Embedding(SHADES, config.width)
        self.project = nn.Linear(4, config.width)
        self.layers = nn.Sequential(nn.Linear(config.width, 3 * spec.size**2), nn.Tanh())

    def initialise(self, rng: torch.Generator) -> None:
        for weight in self.parameters():
            nn.init.normal_(weight, 0, 0.5, generator=rng)

    def players(self) -> Sequence[Player]:
        return [Player("generator", [self], Adam(lr=self.config.learning_rate))]

    def updates(self) -> Sequence[Update]:
        return [Update("generator", self._loss)]

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        known = step.batch.labels.clamp(min=0)
        drawn = self.sample(step.noise.of(self.space, len(known)), known)
        loss = (drawn - step.batch.images).square().mean()
        return loss, {"loss/generator": loss.detach()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        first, second, shade = self.space.split(noise)
        hidden = self.project(torch.cat([first, second.flatten(1)], dim=1))
        hidden = torch.tanh(hidden + self.embed(labels) + self.shade(shade[:, 0].long()))
        return self.layers(hidden).view(-1, 3, self.spec.size, self.spec.size)
