"""The model that is played with: from a seed, a class and the places of some sliders to images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genmodel.output.counting import counted
from genmodel.sampling.draw import Networks
from genmodel.sampling.load import load_model
from genmodel.sampling.sweeps import Code, codes_of
from genmodel.sampling.walks import between
from genmodel.sizes import shape_text

SLIDERS = 10  # codes that have one
STEP = 0.01  # of a slider
_REACH = {"normal": 3.0, "uniform": 1.0}  # of a slider, to either side


@dataclass(frozen=True)
class Slider:
    """The slider of a code, or the choice among its categories."""

    code: Code

    @property
    def name(self) -> str:
        return f"code {self.code.column}"

    @property
    def categories(self) -> int:
        """How many it chooses from; 0 for a number."""
        return self.code.part.classes

    @property
    def reach(self) -> float:
        """Of a number, to either side of 0."""
        return _REACH[self.code.part.kind]

    def place(self, codes: Tensor) -> float:
        """Where it stands for one row of codes [1, W]: on a step, and not beyond its ends."""
        value = float(codes[0, self.code.column])
        return value if self.categories else round(min(max(value, -self.reach), self.reach), 2)


class Subject:
    """A finished model, and which of its codes have sliders."""

    def __init__(self, source: Networks, about: dict[str, Any]) -> None:
        self.source = source
        self.name, self.family = str(about["name"]), str(about["config"]["family"])
        self.block = str(about.get("block"))  # the digest of the data that it was trained on
        self.classes = [str(name) for name in about["classes"]] if source.model.classes else []
        self.walks = source.space.meaningful  # whether there is something between two of its images
        self.sliders = [Slider(code) for code in codes_of(source.space)[:SLIDERS]] if self.walks else []

    @classmethod
    def load(cls, folder: Path, device: str) -> "Subject":
        """The finished model in a folder; ModelError if it is missing or damaged."""
        model, about = load_model(folder, device)
        return cls(Networks(model, about["weights"], str(folder), about.get("class_counts", ())), about)

    @property
    def described(self) -> str:
        classes = f", {counted(len(self.classes), 'class')}" if self.classes else ""
        return f"{self.family}, {shape_text(self.source.image_size, self.source.channels)}{classes}"

    def codes(self, seed: int, label: int | None) -> Tensor:
        """The codes [1, W] of the first image of `genmodel sample --seed SEED`, of class `label` where it has some."""
        return self.source.codes(1, seed, label if self.classes else None)

    def places(self, codes: Tensor) -> list[float]:
        """Where the sliders stand for the codes of one image."""
        return [slider.place(codes) for slider in self.sliders]

    def moved(self, codes: Tensor, places: Sequence[float]) -> tuple[Tensor, int]:
        """The codes of one image with those replaced whose sliders do not stand where they stand for it; how many.

        The others keep every bit, which a slider does not show.
        """
        changed, count = codes.clone(), 0
        for slider, before, now in zip(self.sliders, self.places(codes), places, strict=True):
            if abs(now - before) >= STEP / 2:
                changed[0, slider.code.column] = now
                count += 1
        return changed, count

    def way(self, seeds: tuple[int, int], label: int | None, frames: int) -> Tensor:
        """The codes [frames, W] from the image of one seed to that of another; the class stays."""
        first, last = (self.codes(seed, label)[0] for seed in seeds)
        width = self.source.space.width
        walk = between(self.source.space, first[:width], last[:width], frames)
        return torch.cat([walk, first[width:].expand(frames, -1)], dim=1)

    def draw(self, codes: Tensor) -> Tensor:
        """Images of codes, uint8 [N, H, W, C] on the CPU."""
        return self.source.draw(codes)[0].cpu()
