"""What `import genmodel` offers: open a block; load, sample and judge a finished model."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmodel.data.block import Block
from genmodel.devices import choose_device
from genmodel.evaluation import evaluate as judging
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.evaluation.report import Report
from genmodel.models.contract import Family
from genmodel.sampling.draw import sample, sample_classes
from genmodel.sampling.load import load_model as load
from genmodel.sampling.requests import find_class
from genmodel.settings.config import EvaluationConfig


@dataclass(frozen=True)
class Model:
    """A finished model: its networks, in eval mode on their device, and its config.json."""

    network: Family
    about: Mapping[str, Any]

    @property
    def name(self) -> str:
        return str(self.about["name"])

    @property
    def classes(self) -> list[str]:
        """The names of the classes that can be asked for, in the order of their numbers; empty if unconditional."""
        return [str(name) for name in self.about["classes"]] if self.network.classes else []

    def sample(self, n: int = 64, seed: int = 0, label: str | int | None = None) -> np.ndarray:
        """`n` samples, uint8 [n, H, W, C]. Image i of a seed is the same for any `n`.

        `label`: a class of a conditional model, by name or number; without one, classes are as frequent as in its
        training images. ValueError for a class that it does not have.
        """
        if label is not None:
            images = sample_classes(self.network, n, seed, [find_class(self.classes, label)])
        else:
            images = sample(self.network, n, seed, self.about["class_counts"] if self.network.classes else ())
        found: np.ndarray = images.numpy()
        return found


def open_block(path: str | Path = "data") -> Block:
    """The block in a folder: len(block) images, `block.gather(size, rows)` as uint8 [n, H, W, C], `block.labels`.

    BlockError if it is missing or damaged; pixels are read when asked for.
    """
    return Block.open(Path(path))


def load_model(folder: str | Path, device: str = "auto") -> Model:
    """The finished model in a folder; ModelError if it is missing or damaged. `device`: cpu, cuda, cuda:1, or auto."""
    return Model(*load(Path(folder), choose_device(device)))


def evaluate(
    folder: str | Path,
    block: Block,
    config: EvaluationConfig | None = None,
    reference: str | Path = "reference",
    device: str = "auto",
) -> Report:
    """The figures of the finished model in `folder`, with their intervals and conditions.

    `reference` is the folder of the real images' features; it is made if missing, which trains an extractor.
    Without a `config`: the defaults, at the model's own size.
    """
    model = load_model(folder, "cpu").network
    config = config or EvaluationConfig(image_size=model.image_size)
    where, chosen = Path(reference), choose_device(device)
    if not where.exists():
        make_reference(block, config.image_size, config, where, chosen)
    report, _ = judging.evaluate(Path(folder), block, Reference.open(where), config, chosen)
    return report
