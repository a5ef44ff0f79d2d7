"""What the toys are made of."""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.models.contract import Family, ImageSpec


class Pixels(nn.Module):
    """[N, inputs] -> images [N, C, H, W] in [-1, 1]."""

    def __init__(self, inputs: int, spec: ImageSpec) -> None:
        super().__init__()
        self.shape = (spec.channels, *spec.size)
        outputs = math.prod(self.shape)
        self.layers = nn.Sequential(nn.Linear(inputs, 16), nn.SiLU(), nn.Linear(16, outputs), nn.Tanh())

    def forward(self, values: Tensor) -> Tensor:
        images: Tensor = self.layers(values)
        return images.view(-1, *self.shape)


class Summary(nn.Module):
    """images [N, C, H, W] -> [N, outputs]."""

    def __init__(self, outputs: int, spec: ImageSpec) -> None:
        super().__init__()
        inputs = spec.channels * math.prod(spec.size)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(inputs, 16), nn.LeakyReLU(0.2), nn.Linear(16, outputs))

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
