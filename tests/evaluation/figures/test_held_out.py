"""Figures of abilities and of classes: a toy family that knows all of them, and what it must score by its making."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from genmodel.data.block import Block
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.extractors.choice import Pixels
from genmodel.evaluation.judge import judge_model
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.evaluation.report import Report
from genmodel.evaluation.samples import take
from genmodel.files import tensors
from genmodel.files.model_folder import write_config
from genmodel.models.abilities import Classifies, Clusters, Likelihood
from genmodel.models.contract import Family, ImageSpec
from genmodel.models.families import FAMILIES
from genmodel.models.noise import Space, draw_labels, image_seeds, normal
from genmodel.params import run_config
from genmodel.pixels import to_model
from genmodel.sampling.draw import Networks
from genmodel.sampling.load import load_model
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

CONFIG = EvaluationConfig(samples=60, seed=5, classifier_images=6400)
COUNTS = [40, 20, 60]


@dataclass(frozen=True, kw_only=True)
class PainterConfig:
    shift: int = 0


class Painter(Family, Likelihood, Classifies, Clusters):
    """Paints the mean image of the class that is asked for, with noise; `shift` classes further, if it is wrong."""

    Config = PainterConfig

    def __init__(self, config: PainterConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space, self.classes = Space((normal(3, *spec.size),)), spec.classes
        self.means = nn.Parameter(torch.zeros(spec.classes, 3, *spec.size))

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        (pixels,) = self.space.split(noise)
        return (self.means[(labels + self.config.shift) % self.classes] + 0.1 * pixels).clamp(-1, 1)

    def bits(self, images: Tensor, labels: Tensor) -> Tensor:
        return 8 - labels.double()

    def classify(self, images: Tensor) -> Tensor:
        return -(to_model(images)[:, None] - self.means).square().flatten(2).sum(dim=2)

    def cluster(self, images: Tensor) -> Tensor:
        return torch.stack([torch.zeros(len(images)).long(), 7 - self.classify(images).argmax(dim=1)], dim=1)

    def initialise(self, rng: torch.Generator) -> None: ...
    def players(self) -> list: ...
    def updates(self) -> list: ...


@pytest.fixture(scope="module")
def reference(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(block, Size(16, 16), CONFIG, tmp_path_factory.mktemp("made") / "reference")


def painter(block: Block, shift: int = 0) -> Painter:
    model = Painter(PainterConfig(shift=shift), ImageSpec(Size.of(16), classes=len(block.classes)))
    images = to_model(torch.from_numpy(block.gather(16, block.rows("train"))))
    labels = torch.as_tensor(block.labels[block.rows("train")])
    model.means.data = torch.stack([images[labels == label].mean(dim=0) for label in range(len(block.classes))])
    return model.eval().requires_grad_(False)


def judged(
    block: Block, reference: Reference, folder: Path, shift: int = 0, classes: list[str] | None = None
) -> Report:
    config = run_config({"family": "painter", "image_size": 16, "network": {"shift": shift}}, "test")
    about = {
        "name": "painter",
        "fingerprint": "f" * 64,
        "code": "c" * 64,
        "config": config.as_dict(),
        "weights": tensors.save(folder / "weights.safetensors", painter(block, shift).state_dict()),
        "classes": classes or block.classes,
        "class_counts": COUNTS,
    }
    write_config(folder, about)
    return evaluate(folder, block, reference, CONFIG)[0]


@pytest.fixture(autouse=True)
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "painter", f"{__name__}:Painter")


@pytest.mark.slow
def test_an_independent_classifier_sees_the_class_that_was_asked_for(
    block: Block, reference: Reference, tmp_path: Path
) -> None:
    right = judged(block, reference, tmp_path / "right").figures
    wrong = judged(block, reference, tmp_path / "wrong", shift=1).figures
    assert right["conditional_accuracy"] is not None and right["conditional_accuracy"] > 0.9
    assert wrong["conditional_accuracy"] is not None and wrong["conditional_accuracy"] < 0.1
    assert right["bits_per_dim"] is right["psnr"] is right["bits_per_dim_iw"] is None


@pytest.mark.slow
def test_it_applies_only_where_the_extractor_tells_the_classes_of_the_model(
    block: Block, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = EvaluationConfig(samples=60, extractor="pixels")
    judged(block, reference, tmp_path / "model")
    pixels = make_reference(block, Size(16, 16), config, tmp_path / "reference")
    assert evaluate(tmp_path / "model", block, pixels, config)[0].figures["conditional_accuracy"] is None
    renamed = judged(block, reference, tmp_path / "renamed", classes=["cedar", "ash", "birch"])
    assert renamed.figures["conditional_accuracy"] is None, "the model counts its classes in another order"


def test_a_classifier_of_an_older_reference_tells_no_classes_by_name(
    block: Block, reference: Reference, tmp_path: Path
) -> None:
    entry = {key: value for key, value in reference.about["extractor"].items() if key != "class_names"}
    old = Reference(reference.path, {**reference.about, "extractor": entry}, reference.real)
    assert judged(block, old, tmp_path).figures["conditional_accuracy"] is None


def test_abilities_are_asked_for_and_given_the_labels_of_the_val_images(
    block: Block, reference: Reference, tmp_path: Path
) -> None:
    report = judged(block, reference, tmp_path / "same")
    labels = torch.as_tensor(block.labels[block.rows("val")]).double()
    assert report.figures["bits_per_dim_exact"] == pytest.approx(float((8 - labels).mean()), rel=1e-5)
    for name in ("accuracy", "cluster_accuracy"):  # groups have other numbers than the classes
        assert report.figures[name] == 1.0 and report.intervals[name] == (1.0, 1.0)
    fewer = judged(block, reference, tmp_path / "fewer", classes=["ash", "cedar", "oak"])
    known = torch.tensor([0.0, -1.0, 1.0])[labels.long()]  # by their names, as the model counts them
    assert fewer.figures["bits_per_dim_exact"] == pytest.approx(float((8 - known).mean()), rel=1e-5)
    assert fewer.figures["accuracy"] == pytest.approx(1 / 3, abs=0.05), "ash alone keeps its number"


def test_images_without_a_label_are_shown_as_such_and_count_for_no_accuracy(
    block: Block, reference: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels, val = block.labels.copy(), block.rows("val")
    labels[val[::2]] = -1
    monkeypatch.setattr(block, "labels", labels)
    report = judged(block, reference, tmp_path / "some")
    expected = (8 - torch.as_tensor(labels[val]).double()).mean()
    assert report.figures["bits_per_dim_exact"] == pytest.approx(float(expected), rel=1e-5)
    assert report.figures["accuracy"] == 1.0
    monkeypatch.setattr(block, "labels", np.where(block.splits == 1, -1, labels))
    assert judged(block, reference, tmp_path / "none").figures["accuracy"] is None


def test_samples_have_classes_as_often_as_the_train_split(block: Block) -> None:
    model = painter(block)
    asked = take(Networks(model, "w", "", COUNTS), 3000, 1, Pixels())[0].asked
    assert asked is not None and torch.equal(asked, torch.from_numpy(draw_labels(image_seeds(1, 3000), COUNTS)))
    shares = torch.bincount(asked).double() / 3000
    assert (shares - torch.tensor(COUNTS) / sum(COUNTS)).abs().max() < 4 * math.sqrt(0.25 / 3000)


def test_a_finished_model_is_judged_by_classes_as_often_as_it_was_trained_with(
    block: Block, reference: Reference, tmp_path: Path
) -> None:
    judged(block, reference, tmp_path)
    model, about = load_model(tmp_path)
    _, seen = judge_model(model, about, tmp_path, block, reference, CONFIG)
    assert seen.samples.asked is not None
    assert seen.samples.asked.tolist() == draw_labels(image_seeds(CONFIG.seed, CONFIG.samples), COUNTS).tolist()


def test_kept_features_are_of_the_classes_that_were_asked_for(block: Block, tmp_path: Path) -> None:
    model = painter(block)
    first, _ = take(Networks(model, "w", "", COUNTS), 40, 1, Pixels(), tmp_path)
    other, took = take(Networks(model, "w", "", [1, 1, 1]), 40, 1, Pixels(), tmp_path)
    assert took.features_images_per_second is not None, "made anew"
    assert not torch.equal(first.features.values, other.features.values)
    again, took = take(Networks(model, "w", "", COUNTS), 40, 1, Pixels(), tmp_path)
    assert took.features_images_per_second is None and again.asked is not None and first.asked is not None
    assert torch.equal(again.asked, first.asked)


def test_images_without_a_label_are_not_counted_as_wrong(block: Block) -> None:
    """A classifier that says the first class of every image is right on all that have a label, if none has another."""
    from genmodel.data.block import UNLABELLED
    from genmodel.evaluation.figures.held_out import abilities_measured

    model = Painter(PainterConfig(), ImageSpec(Size.of(16), classes=len(block.classes))).eval()
    some = Block.open(block.path)
    before = abilities_measured(model, block.classes, some, CONFIG, torch.device("cpu"))
    some.labels = np.where(some.labels == 0, 0, UNLABELLED)
    after = abilities_measured(model, block.classes, some, CONFIG, torch.device("cpu"))
    assert before["accuracy"].value < 0.7 and after["accuracy"].value == 1
    assert after["bits_per_dim_exact"].value > 8  # 8 - label: that of an image without one is -1, not the last class
