"""The offline extractor: a small convnet trained on the block's labels; its penultimate layer is the features."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genmodel.adam import Adam
from genmodel.data.block import UNLABELLED, Block
from genmodel.data.reading.loader import Loader
from genmodel.errors import EvaluationError
from genmodel.evaluation.extractors.features import Extractor, extract, image_batches
from genmodel.files import tensors
from genmodel.files.durable import digest_bytes
from genmodel.output.counting import counted
from genmodel.output.progress import bar
from genmodel.pixels import to_model
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

_VERSION = 1  # of architecture and training: raise it when either changes
_TRAINING_BATCH = 64
_LEARNING_RATE = 2e-3


class Classifier(Extractor):
    """Convolutions until the short side is 4, a mean over the map, 64 features, logits. Images of any shape and number
    of channels. GroupNorm: no image depends on another."""

    name = "classifier"
    dim = 64

    def __init__(self, image_size: Size, channels: int, classes: int, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.classes = names
        self.val_accuracy = math.nan
        short = min(image_size)
        stride = max(1, short // 32)  # a wide first step keeps large images affordable
        layers: list[nn.Module] = _block(channels, 32, kernel=2 * stride + 1, stride=stride)
        side, width = short // stride, 32
        while side > 4:
            layers += _block(width, min(2 * width, 128), kernel=3, stride=2)
            side, width = (side + 1) // 2, min(2 * width, 128)
        self.trunk = nn.Sequential(*layers)
        self.penultimate = nn.Linear(width, self.dim)
        self.head = nn.Linear(self.dim, classes)

    @classmethod
    def make(cls, block: Block, image_size: Size, config: EvaluationConfig, device: str) -> Self:
        """Train on the labelled images of the train split; the seed decides weights and order, so the result is always
        the same."""
        if len(block.classes) < 2:
            raise EvaluationError(
                f"{block.path} has {counted(len(block.classes), 'class')} and a classifier needs two:"
                " set evaluation.extractor: pixels in params.yaml"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            classifier = cls(image_size, block.channels, len(block.classes), block.classes)
        classifier.to(device)
        loader = Loader(block, image_size, "train", config.seed, unlabelled=False)
        _train(classifier, loader, config.classifier_images, device)
        classifier.eval().requires_grad_(False)
        classifier.val_accuracy = _accuracy(classifier, block, image_size, device)
        return classifier

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        entry = about["extractor"]
        names = entry.get("class_names", [])  # an older version's classifier has none
        classifier = cls(Size.of(about["image_size"]), about.get("channels", 3), entry["classes"], names)
        weights, _ = tensors.load(folder / "extractor.safetensors", about["files"]["extractor.safetensors"])
        classifier.load_state_dict(weights)
        classifier.val_accuracy = math.nan if entry["val_accuracy"] is None else entry["val_accuracy"]
        return classifier.eval().requires_grad_(False)

    @property
    def fingerprint(self) -> str:
        return digest_bytes(tensors.pack(self.weights(), {"extractor": self.name, "version": str(_VERSION)}))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        values = self.penultimate(self.trunk(to_model(images)).mean(dim=(2, 3)))
        return values, self.head(nn.functional.silu(values))

    def weights(self) -> dict[str, Tensor]:
        return self.state_dict()

    def about(self) -> dict[str, Any]:
        return {
            **super().about(),
            "classes": self.head.out_features,
            "class_names": list(self.classes),
            "val_accuracy": None if math.isnan(self.val_accuracy) else self.val_accuracy,
        }


def _block(before: int, after: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, bias=False)
    return [convolution, nn.GroupNorm(8, after), nn.SiLU(inplace=True)]


def _train(classifier: Classifier, loader: Loader, budget: int, device: str) -> None:
    """Adam under a cosine schedule over `budget` images."""
    optimizer = Adam(classifier.parameters(), _LEARNING_RATE)
    steps = math.ceil(budget / _TRAINING_BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    progress = bar(steps * _TRAINING_BATCH, 0, "classifier")
    for step in range(steps):
        images, labels = loader.batch(step * _TRAINING_BATCH, _TRAINING_BATCH)
        _, logits = classifier(images.to(device))
        known = labels != UNLABELLED
        if not known.all():  # selecting all of them would cost time
            logits, labels = logits[known.to(device)], labels[known]
        loss = cross_entropy(logits, labels.to(device)) if len(labels) else logits.sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        progress.update(_TRAINING_BATCH)
    progress.close()


def _accuracy(classifier: Classifier, block: Block, image_size: Size, device: str) -> float:
    """Share of the labelled val images that the classifier gets right; NaN if none is labelled."""
    rows = block.rows("val")
    rows = rows[block.labels[rows] != UNLABELLED]
    if not len(rows):
        return math.nan
    logits = extract(classifier, image_batches(block, image_size, rows), device).logits
    assert logits is not None
    labels = torch.as_tensor(block.labels[rows])
    return round(float((logits.argmax(dim=1) == labels).double().mean()), 6)
