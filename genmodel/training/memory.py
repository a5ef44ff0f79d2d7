"""When memory is short: half as many images go through the networks at once, and their gradients are added, so that
the batch stays what the recipe says. It is tried once, and said."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from genmodel.devices import fits_into_memory
from genmodel.errors import ConfigError
from genmodel.training.step.distributed import World
from genmodel.training.step.engine import Engine


class Memory:
    def __init__(self, name: str, engine: Engine, world: World) -> None:
        """`name` is the model's."""
        self.name, self.engine, self.world = name, engine, world
        self._warned = False

    def step(self, images: Tensor, labels: Tensor, images_seen: int) -> bool:
        """The engine's step; False if memory was short for it: the state is spoilt then, and `halve` is next."""
        if not fits_into_memory(lambda: self.engine.step(images, labels, images_seen)):
            return False
        if self.engine.halved and self.engine.mixes and not self._warned:
            self._warned = True
            self.world.say(
                f"warning: {self.name}: with half as many images at once it does not become the same model: batch "
                "normalisation, or a loss over several images, depends on which are processed together"
            )
        return True

    def halve(self, images_seen: int) -> str:
        """Returns what happened, after `images_seen` images; ConfigError if it has been halved, or cannot be."""
        config, parts = self.engine.config, self.engine.parts
        at_once = config.batch_size // (parts * self.world.size)
        told = f"{self.name}: out of memory near image {images_seen:,} with {at_once:,} images at once"
        if self.engine.halved or at_once == 1 or self.world.size > 1:
            raise ConfigError(
                f"{told}: lower training.batch_size ({config.batch_size:,}), raise training.accumulate "
                f"({config.accumulate}) above {parts}, or make the network smaller"
            )
        self.engine.halve()
        return told

    def facts(self) -> dict[str, bool]:
        """For a checkpoint, and for whoever reads the model."""
        return {"halved": True} if self.engine.halved else {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        if "halved" in facts and not self.engine.halved:
            self.engine.halve()
