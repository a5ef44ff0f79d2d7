"""Evaluation: all figures beside torch-fidelity's, with the same network on the same images; and what figures cost."""

import argparse
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.compare import Row, alternate, rate
from genmodel.data.block import Block
from genmodel.devices import choose_device, use_cpu
from genmodel.evaluation.extractors import choice as extractors
from genmodel.evaluation.extractors.choice import Inception
from genmodel.evaluation.extractors.classifier import Classifier
from genmodel.evaluation.extractors.features import BATCH_SIZE, Extractor, Features, extract
from genmodel.evaluation.figures.bootstrap import intervals
from genmodel.evaluation.figures.of_features import Compared
from genmodel.evaluation.figures.real import Real
from genmodel.files import durable
from genmodel.sizes import Size

_SIZE, _HELD_OUT, _PAIRS = 64, 100, 1000


def measure_evaluate(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """Of `--samples` samples at 64 px against as many real images, by Inception of random weights and the classifier.

    Ratios of the rows on figures are seconds of the extractor over seconds of all else: 4x is 80% in the extractor.
    """
    use_cpu(0)
    device, count = choose_device(), options.samples
    real, fake = _noise(count, seed=1), _noise(count, seed=2)
    with tempfile.TemporaryDirectory() as scratch:
        weights = Path(scratch) / "inception.pth"
        torch.save(_random_inception(), weights)
        extractors.INCEPTION_SHA256 = durable.digest_file(weights)  # whose speed does not depend on their values
        rows = [_beside_torch_fidelity(real, fake, weights, device, options.repeats)]
        rows.append(_share(Inception(weights).to(device), real, fake, device, options.repeats))
    rows.append(_share(Classifier(Size.of(_SIZE), 3, 10).eval().to(device), real, fake, device, options.repeats))
    return rows


def _beside_torch_fidelity(real: Tensor, fake: Tensor, weights: Path, device: str, repeats: int) -> Row:
    """Everything from images to figures, of both sets: 15 figures and intervals here, FID, KID, IS and PRC there.

    Theirs has a process of its own, where nothing is set that genmodel sets for itself.
    """

    def ours() -> None:
        extractor = Inception(weights).to(device)
        known = Real.of(extract(extractor, real.split(BATCH_SIZE), device).values, torch.zeros(0, Inception.dim))
        _figures(known, extract(extractor, fake.split(BATCH_SIZE), device), extractor.name)

    what = f"evaluate {len(fake):,} samples and as many real images, inception, {device}"
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        theirs = lambda: apart.submit(_torch_fidelity, real, fake, weights, device).result()  # noqa: E731
        both = len(real) + len(fake)
        return alternate(what, lambda: rate(both, ours), "torch-fidelity: FID, KID, IS, PRC", theirs, repeats)


def _torch_fidelity(real: Tensor, fake: Tensor, weights: Path, device: str) -> float:
    from torch_fidelity import calculate_metrics

    wanted = {"isc": True, "fid": True, "kid": True, "prc": True, "kid_subset_size": min(1000, len(fake))}
    return rate(
        len(real) + len(fake),
        lambda: calculate_metrics(
            input1=_Images(fake), input2=_Images(real), batch_size=BATCH_SIZE, cuda=device != "cpu", verbose=False,
            feature_extractor="inception-v3-compat", feature_extractor_weights_path=str(weights), cache=False, **wanted,
        ),
    )  # fmt: skip


def _share(extractor: Extractor, real: Tensor, fake: Tensor, device: str, repeats: int) -> Row:
    """All figures and intervals from features that are there, beside the extractor's pass over the samples."""
    control = extract(extractor, _noise(_HELD_OUT, seed=3).split(BATCH_SIZE), device).values
    known = Real.of(extract(extractor, real.split(BATCH_SIZE), device).values, control)
    features = extract(extractor, fake.split(BATCH_SIZE), device)

    def given() -> float:
        return rate(len(fake), lambda: _figures(known, features, extractor.name))

    def alone() -> float:
        return rate(len(fake), lambda: extract(extractor, fake.split(BATCH_SIZE), device))

    what = f"figures of {len(fake):,} samples, features given, {extractor.name}, {device}"
    return alternate(what, given, "the extractor alone", alone, repeats)


def _figures(real: Real, features: Features, extractor: str) -> None:
    compared = Compared(real, features, torch.zeros(_PAIRS, dtype=torch.float64))
    intervals(compared.estimates(extractor), seed=0)


def _noise(count: int, seed: int) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, _SIZE, _SIZE, 3), generator=rng, dtype=torch.uint8)


class _Images(Dataset):
    """What torch-fidelity takes: uint8 [3, S, S] each."""

    def __init__(self, images: Tensor) -> None:
        self.images = images.permute(0, 3, 1, 2).contiguous()

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, place: int) -> Tensor:
        return self.images[place]


def _random_inception() -> dict[str, Any]:
    """A state of the reference network, whose constructor insists on a file to load."""
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    class Untrained(FeatureExtractorInceptionV3):
        def load_state_dict(self, state: Any) -> None:
            pass

    with tempfile.NamedTemporaryFile(suffix=".pth") as empty:
        torch.save({}, empty.name)
        return dict(Untrained("untrained", ["2048"], feature_extractor_weights_path=empty.name).state_dict())
