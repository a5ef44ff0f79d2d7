"""What the toys are made of."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.models.contract import Family


class Pixels(nn.Module):
    """[N, inputs] -> images [N, 3, S, S] in [-1, 1]."""

    def __init__(self, inputs: int, size: int) -> None:
        super().__init__()
        self.size = size
        self.layers = nn.Sequential(nn.Linear(inputs, 16), nn.SiLU(), nn.Linear(16, 3 * size * size), nn.Tanh())

    def forward(self, values: Tensor) -> Tensor:
        images: Tensor = self.layers(values)
        return images.view(-1, 3, self.size, self.size)


class Summary(nn.Module):
    """images [N, 3, S, S] -> [N, outputs]."""

    def __init__(self, outputs: int, size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(3 * size * size, 16), nn.LeakyReLU(0.2), nn.Linear(16, outputs)
        )

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layers(images)
        return found


@dataclass(frozen=True, kw_only=True)
class NoSettings:
    pass


class ToyFamily(Family):
    Config: ClassVar[type] = NoSettings
    clock: ClassVar[Literal["linear", "log"]] = "log"

    def initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, 0, 0.2, generator=rng)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)
