"""The evaluation of one model: samples -> features -> figures, with the conditions that they were made under."""

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genmodel.config import EvaluationConfig
from genmodel.data.block import Block
from genmodel.errors import IncomparableError
from genmodel.evaluation.features import BATCH_SIZE, Features, extract, figure_names, image_batches, spread
from genmodel.evaluation.reference import Reference
from genmodel.evaluation.statistics import frechet_distance, inception_score, kernel_distance, moments
from genmodel.models.base import GenerativeModel
from genmodel.saved import load_model, sample_batches


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is known of a model's quality. Reports of unlike `conditions` must not be compared."""

    name: str
    family: str
    fingerprint: str
    weights: str  # sha256
    conditions: dict[str, Any]
    figures: dict[str, float | None]  # None: the figure does not apply to the family

    def as_dict(self) -> dict[str, Any]:
        """For JSON: figures with 6 significant digits, and as text ("nan", "inf") where they are no numbers."""
        return {**asdict(self), "figures": {name: _rounded(value) for name, value in self.figures.items()}}


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What the evaluation took; kept apart from the Report, which is the same every time."""

    seconds: float
    sampling_images_per_second: float
    features_images_per_second: float


def evaluate(
    model_dir: Path, block: Block, reference: Reference, config: EvaluationConfig, device: str = "cpu"
) -> tuple[Report, Timing]:
    """Judge the model in `model_dir` by `config.samples` samples, and by the val split where it has a likelihood.

    IncomparableError if the reference fits neither block, settings nor the model's image size.
    """
    start = time.perf_counter()
    if config.threads:
        torch.set_num_threads(config.threads)
    reference.check(block)
    model, about = load_model(model_dir, device)
    image_size = reference.about["image_size"]
    if model.image_size != image_size:
        raise IncomparableError(
            f"{model_dir} makes images of {model.image_size} px, but {reference.path} was made at {image_size} px:"
            " make a reference of the model's size"
        )
    extractor = reference.extractor(config).to(device)
    watched = _Stopwatch(sample_batches(model, config.samples, config.seed, BATCH_SIZE))
    extraction = time.perf_counter()
    features = extract(extractor, watched, device)
    feature_seconds = time.perf_counter() - extraction - watched.seconds
    bits_per_dim = _bits_per_dim(model, block, image_size, config, device) if model.has_likelihood else None
    report = Report(
        name=about["name"],
        family=about["config"]["family"],
        fingerprint=about["fingerprint"],
        weights=about["weights"],
        conditions=_conditions(reference, config),
        figures={**_figures(reference, features, extractor.name), "bits_per_dim": bits_per_dim},
    )
    timing = Timing(
        seconds=time.perf_counter() - start,
        sampling_images_per_second=config.samples / watched.seconds,
        features_images_per_second=config.samples / feature_seconds,
    )
    return report, timing


def _figures(reference: Reference, features: Features, extractor: str) -> dict[str, float]:
    """The figures that every family has; an Inception score only of an extractor with classes."""
    names = figure_names(extractor)
    figures = {
        names.frechet: frechet_distance(reference.moments, moments(features.values)),
        names.kernel: kernel_distance(reference.features, features.values),
    }
    return figures if features.logits is None else {**figures, names.inception_score: inception_score(features.logits)}


def _conditions(reference: Reference, config: EvaluationConfig) -> dict[str, Any]:
    """All that figures depend on besides the model."""
    about = reference.about
    return {
        "extractor": {"name": about["extractor"]["name"], "fingerprint": about["extractor"]["fingerprint"]},
        "block": about["block"],
        "image_size": about["image_size"],
        "resize": about["resize"],
        "n_real": about["n"],
        "n_samples": config.samples,
        "seed": config.seed,
    }


@torch.inference_mode()
def _bits_per_dim(
    model: GenerativeModel, block: Block, image_size: int, config: EvaluationConfig, device: str
) -> float:
    """Mean over the val split (at most `config.samples` images of it), one sample of z an image."""
    rng = torch.Generator(device).manual_seed(config.seed)
    rows = spread(block.rows("val"), config.samples)
    batches = image_batches(block, image_size, rows)
    bits = [model.bits_per_dim(images.to(device), rng)["bits_per_dim"].double().cpu() for images in batches]
    return float(torch.cat(bits).mean())


class _Stopwatch:
    """Batches, and the seconds that it took to make them."""

    def __init__(self, batches: Iterator[Tensor]) -> None:
        self.batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Tensor]:
        return self

    def __next__(self) -> Tensor:
        start = time.perf_counter()
        try:
            return next(self.batches)
        finally:
            self.seconds += time.perf_counter() - start


def _rounded(value: float | None) -> float | str | None:
    if value is None:
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)
