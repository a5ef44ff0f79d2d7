"""A family that tells what it was given: labels, knobs, first images, and what an update left to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.data.block import Block
from genmodel.models.contract import Adam, Adamax, Batch, Family, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.settings.config import RunConfig, TrainingConfig
from genmodel.settings.schedule import Schedule, Scheduled
from genmodel.training.identity import Identity


@dataclass(frozen=True, kw_only=True)
class ToyConfig:
    updates: int = 2  # on the same images, after the first one that sees new ones


class Toy(Family):
    """Images of one colour for each class: learned by one player, and by another that is moved once a batch more."""

    Config: ClassVar[type] = ToyConfig
    clock: ClassVar[Literal["linear", "log"]] = "linear"
    first_images = 12

    def __init__(self, config: Any, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space, self.classes = Space((normal(3),)), spec.classes
        self.colours = nn.Embedding(spec.classes + 1, 3)  # the last: of images without a label
        self.scale = nn.Linear(3, 3)
        self.register_buffer("first", torch.zeros(2, 3))
        self.seen: list[dict[str, Any]] = []

    def initialise(self, rng: torch.Generator) -> None:
        for value in self.parameters():
            nn.init.normal_(value, 0, 0.1, generator=rng)

    def begin(self, batch: Batch) -> None:
        self.first[0] = batch.images.mean((0, 2, 3))
        self.first[1] = batch.labels.float().mean()

    def players(self) -> Sequence[Player]:
        betas: tuple[Scheduled, Scheduled] = (Schedule(0.5, 0.9, over=100), 0.99)
        return [
            Player("colours", [self.colours], Adam(lr=Schedule(0.1, 0.01, over=100), betas=betas)),
            Player("scale", [self.scale], Adamax(lr=0.01, betas=betas)),
        ]

    def updates(self) -> Sequence[Update]:
        again = [Update("scale", self._again, new_batch=False)] * self.config.updates
        return [Update("colours", self._loss), *again, Update("colours", self._loss)]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"weight": Schedule(1.0, 0.0, over=100, shape="linear"), "one": 1.0}

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        self._tell(step)
        made = self._made(step)
        step.keep("made", made.detach)
        every = step.gather(step.batch.images.mean((2, 3)))
        loss = step.knobs["weight"] * (made - every.mean(0)).square().mean()
        loss = loss + (made - step.batch.images.mean((2, 3))).square().mean()
        told = (step.batch.labels == -1).float().mean()
        return loss, {"loss/colours": loss.detach(), "score/withheld": told, "score/weight": step.knobs["weight"] + 0}

    def _again(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        self._tell(step)
        made = step.kept["made"]() if "made" in step.kept else self._made(step).detach()
        loss = (self.scale(made) - self.first[0]).square().mean()
        return loss, {"loss/scale": loss.detach()}

    def _made(self, step: Step) -> Tensor:
        made: Tensor = self.colours(step.batch.labels % len(self.colours.weight))
        return made + 0.1 * step.noise.of(self.space, len(made))

    def _tell(self, step: Step) -> None:
        self.seen.append({"labels": step.batch.labels.tolist(), "kept": set(step.kept), "noise": step.noise})

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None and not self.training
        colours = self.scale(self.colours(labels) + 0.1 * noise)
        return colours.tanh()[:, :, None, None].expand(-1, -1, *self.image_size)


def config(**chosen: Any) -> RunConfig:
    values = {"images": 320, "batch_size": 8, "threads": 1, "log_every": 32, "checkpoint_every": 80} | chosen
    training = TrainingConfig(**values)
    return RunConfig(family="toy", image_size=8, network=ToyConfig(), training=training, model=Toy)


SETTINGS: dict[str, Any] = {"labelled": 5, "ema_half_life": Schedule(0.0, 40.0, over=200), "flip": True}


def identity(block: Block, **chosen: Any) -> Identity:
    return Identity(name="toy", config=config(**chosen), block=block.digest, code="that of a test")
