"""Learning rate, betas and the weight of a penalty follow schedules, and so does, by its setting, the average."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from genmodel.models.contract import Adam, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.losses import discriminator_loss, frozen, non_saturating_loss, r1_penalty
from genmodel.settings.schedule import Schedule, Scheduled
from toys.layers import Pixels, Summary, ToyFamily


@dataclass(frozen=True, kw_only=True)
class Config:
    lr: float | Schedule = Schedule(2e-3, 5e-4, 300)
    beta2: float | Schedule = Schedule(0.9, 0.99, 200, "linear")
    gamma: float | Schedule = Schedule(1.0, 0.1, 160)


class Toy(ToyFamily):
    Config: ClassVar[type] = Config

    def __init__(self, config: Config, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((normal(4),))
        self.generator, self.discriminator = Pixels(4, spec), Summary(1, spec)

    def players(self) -> Sequence[Player]:
        optimizer = Adam(lr=self.config.lr, betas=(0.0, self.config.beta2))
        return [
            Player("discriminator", [self.discriminator], optimizer),
            Player("generator", [self.generator], optimizer),
        ]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"gamma": self.config.gamma}

    def updates(self) -> Sequence[Update]:
        return [Update("discriminator", self._critic), Update("generator", self._maker)]

    def _critic(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        images = step.batch.images.requires_grad_()
        fakes, real = self.generator(step.noise.of(self.space, len(images))).detach(), self.discriminator(images)
        penalty = r1_penalty(real, images)
        loss = discriminator_loss(real, self.discriminator(fakes)) + 0.5 * step.knobs["gamma"] * penalty
        return loss, {"loss/discriminator": loss.detach(), "score/gamma": step.knobs["gamma"].clone()}

    def _maker(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        with frozen(self.discriminator):
            fakes = self.generator(step.noise.of(self.space, len(step.batch.images)))
            loss = non_saturating_loss(self.discriminator(fakes))
        return loss, {"loss/generator": loss.detach()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise)
        return images
