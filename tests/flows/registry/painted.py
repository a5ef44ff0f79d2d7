"""Tiny models whose packages are made in no time, with their folder, report and card."""

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from flows.registry.description import Card
from flows.tracking.trainings import Training
from genmodel.files import tensors
from genmodel.files.model_folder import write_config
from genmodel.models.contract import Family, ImageSpec, Player, Update
from genmodel.models.noise import Space, normal
from genmodel.sizes import Size
from tests.reports import Numbers, made_report


class Painter(Family):
    """Noise float32 [N, 4] to images of 8 px."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(None, ImageSpec(Size.of(8)))
        self.space = Space((normal(4),))
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 8 * 8 * 3)

    def initialise(self, rng: torch.Generator) -> None: ...

    def players(self) -> list[Player]:
        return []

    def updates(self) -> list[Update]:
        return []

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(noise).tanh().view(-1, 3, 8, 8)


class Blank(Painter):
    """Images of one value."""

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().sample(noise) * 0 + 7 / 127.5 - 1


class Choosy(Painter):
    """No graph can look at numbers and choose."""

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().sample(noise if noise.sum() > 0 else -noise)


class Counting(Painter):
    """Its graph would keep what an earlier call left behind."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.calls = [0]

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        self.calls[0] += 1
        return super().sample(noise * self.calls[0])


class Broken(Painter):
    """Its graph would take one number of images alone, and not the one in which images are drawn."""

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        return super().sample(noise[:5])


def finished(training: Training, folder: Path, seed: int) -> tuple[Path, Painter, Card]:
    """A model's folder, its sampler and its card, which holds its report."""
    painter = Painter(seed).eval()
    folder.mkdir()
    weights = tensors.save(folder / "weights.safetensors", painter.state_dict())
    described = {"name": "small-vae", "fingerprint": training.fingerprint, "config": training.config}
    described |= {"classes": ["circle", "square"], "class_counts": [30, 28], "weights": weights}
    write_config(folder, described)
    grid = folder.parent / "0000000064.png"
    Image.new("RGB", (8, 8), (9, 99, 199)).save(grid)
    figures: Numbers = {"fd_classifier": 12.3456789 + seed, "kd_classifier": "nan", "bits_per_dim": None}
    report = made_report("small-vae", figures, weights=weights)
    card = Card(about=described, report=report, data={"source": "digits"}, cost={"seconds": 3}, grid=grid)
    return folder, painter, card
