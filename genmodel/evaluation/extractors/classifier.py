"""The offline extractor: a small convnet trained on the block's labels; all its layers make the features."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from genmodel.adam import Adam
from genmodel.data.block import UNLABELLED, Block
from genmodel.data.reading.loader import Loader
from genmodel.errors import EvaluationError
from genmodel.evaluation.extractors.features import Extractor, extract, image_batches, spread
from genmodel.files import tensors
from genmodel.files.durable import digest_bytes
from genmodel.output.counting import counted
from genmodel.output.progress import bar
from genmodel.pixels import to_model
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

_TRAINING_BATCH = 64
_LEARNING_RATE = 2e-3
_MIXED = 2000  # training images, at most, that the features are scaled by
_STILL = 1e-3  # the least deviation that a feature is divided by


class Classifier(Extractor):
    """Convolutions until the short side is 4, a mean over the map, 64 units, logits. Images of any shape and number of
    channels. GroupNorm: no image depends on another.

    The features are 64 random projections of the mean of every layer's map and of the last 64 units, each divided by
    its deviation among training images. The last units alone vary in little more than one direction a class, and see
    nothing that does not change the class, such as a checkerboard (benchmarks/judgement.py).
    """

    name = "classifier"
    version = 2  # of architecture and training: raise it when either changes
    dim = 64
    shift: Tensor
    mix: Tensor

    def __init__(self, image_size: Size, channels: int, classes: int, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.classes = names
        self.val_accuracy = self.chance = math.nan
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
        pooled = self.dim + sum(layer.out_channels for layer in self.trunk if isinstance(layer, nn.Conv2d))
        self.register_buffer("shift", torch.zeros(pooled))
        self.register_buffer("mix", torch.randn(pooled, self.dim) / math.sqrt(pooled))

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
        classifier.scale(image_batches(block, image_size, spread(block.rows("train"), _MIXED)), device)
        classifier.val_accuracy, classifier.chance = _accuracy(classifier, block, image_size, device)
        return classifier

    @classmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        entry = about["extractor"]
        names = entry.get("class_names", [])  # an older version's classifier has none
        classifier = cls(Size.of(about["image_size"]), about.get("channels", 3), entry["classes"], names)
        weights, _ = tensors.load(folder / "extractor.safetensors", about["files"]["extractor.safetensors"])
        classifier.load_state_dict(weights)
        classifier.val_accuracy, classifier.chance = (
            math.nan if entry[name] is None else entry[name] for name in ("val_accuracy", "chance")
        )
        return classifier.eval().requires_grad_(False)

    @property
    def fingerprint(self) -> str:
        return digest_bytes(tensors.pack(self.weights(), {"extractor": self.name, "version": str(self.version)}))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pooled, logits = self.layers(images)
        return (pooled - self.shift) @ self.mix, logits

    def layers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of every layer's map and the last units, side by side, and the logits."""
        level, means = to_model(images), []
        for layer in self.trunk:
            level = layer(level)
            if isinstance(layer, nn.SiLU):
                means.append(level.mean(dim=(2, 3)))
        last = self.penultimate(means[-1])
        return torch.cat([*means, last], dim=1), self.head(nn.functional.silu(last))

    @torch.no_grad()
    def scale(self, batches: Iterable[Tensor], device: str) -> None:
        """Give the projections the mean and the deviation of all that they mix, among these images."""
        pooled = torch.cat([self.layers(images.to(device))[0].double().cpu() for images in batches])
        deviation = pooled.std(dim=0).clamp(min=_STILL)
        self.shift.copy_(pooled.mean(dim=0))
        self.mix.div_(deviation[:, None])

    def weights(self) -> dict[str, Tensor]:
        return self.state_dict()

    def about(self) -> dict[str, Any]:
        return {
            **super().about(),
            "classes": self.head.out_features,
            "class_names": list(self.classes),
            "val_accuracy": None if math.isnan(self.val_accuracy) else self.val_accuracy,
            "chance": None if math.isnan(self.chance) else self.chance,
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
        _, logits = classifier.layers(images.to(device))
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


def _accuracy(classifier: Classifier, block: Block, image_size: Size, device: str) -> tuple[float, float]:
    """Share of the labelled val images that the classifier gets right, and the share of their most frequent class: what
    guessing gets right. NaN if none is labelled."""
    rows = block.rows("val")
    rows = rows[block.labels[rows] != UNLABELLED]
    if not len(rows):
        return math.nan, math.nan
    logits = extract(classifier, image_batches(block, image_size, rows), device).logits
    assert logits is not None
    labels = torch.as_tensor(block.labels[rows])
    right, most = (logits.argmax(dim=1) == labels).double().mean(), labels.bincount().max() / len(labels)
    return round(float(right), 6), round(float(most), 6)
