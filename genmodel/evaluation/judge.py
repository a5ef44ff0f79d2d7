"""Judging: samples -> features -> figures, with the conditions that they were made under.

Images are judged whatever their source; figures that need the networks are added if the networks are here.
"""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.data.check import ShardCheck
from genmodel.devices import use_cpu
from genmodel.errors import IncomparableError
from genmodel.evaluation import table
from genmodel.evaluation.bounds import BOUNDS
from genmodel.evaluation.extractors.features import held_out_rows, image_batches
from genmodel.evaluation.figures.bootstrap import Estimate, intervals
from genmodel.evaluation.figures.health import findings
from genmodel.evaluation.figures.held_out import abilities_measured
from genmodel.evaluation.figures.of_features import Compared
from genmodel.evaluation.figures.of_weights import Stored, of_weights
from genmodel.evaluation.reference import Reference
from genmodel.evaluation.report import Conditions, ExtractorId, Judged, Memorisation, Report
from genmodel.evaluation.samples import Pass, Samples, pass_over, take
from genmodel.files import durable
from genmodel.files.model_folder import read_file
from genmodel.models.contract import Family
from genmodel.sampling.draw import ImageSource, Networks
from genmodel.settings.config import EvaluationConfig, TrainingConfig, chosen, defaults
from genmodel.sizes import Size, shape_text

_FEWEST = 16  # val images that a row of reference is made of, at least


class Seen(NamedTuple):
    """What was found from the images alone."""

    samples: Samples
    compared: Compared
    estimates: dict[str, Estimate]
    conditions: Conditions
    took: Pass

    def judged(self) -> Judged:
        return Judged(conditions=self.conditions, **_told(self.estimates, self.conditions))


def judge_images(
    source: ImageSource,
    block: Block,
    reference: Reference,
    config: EvaluationConfig,
    cache: Path | None = None,
    classes: Sequence[str] | None = None,
) -> Seen:
    """Judge `config.samples` images from any source; their features are kept in the folder `cache`.

    `classes` are the names of the source's classes, the block's by default.
    IncomparableError if the reference does not fit the block, the settings or the images' size.
    """
    use_cpu(config.threads)
    reference.check(block, config)
    if (source.image_size, source.channels) != (reference.image_size, reference.channels):
        raise IncomparableError(
            f"{source.name} makes images of {shape_text(source.image_size, source.channels)}, but {reference.path} was"
            f" made at {shape_text(reference.image_size, reference.channels)}: make a reference at the model's size"
        )
    extractor = reference.extractor(config).to(source.device)
    samples, took = take(source, config.samples, config.seed, extractor, cache)
    names = list(block.classes if classes is None else classes)
    told = list(extractor.classes) == names and len(source.shares) == len(names)
    compared = Compared(
        reference.real,
        samples.features,
        samples.pairs,
        asked=samples.asked if told else None,
        walks=samples.walks,
        searched=reference.about["n"] / reference.about["of"],
        wavelets=samples.wavelets,
    )
    return Seen(samples, compared, compared.estimates(extractor.name), conditions_of(reference, config), took)


@torch.inference_mode()
def judge_bounds(
    block: Block, reference: Reference, config: EvaluationConfig, device: str = "cpu"
) -> dict[str, Judged]:
    """Rows of reference (bounds.py): val images, and the same ones spoilt, judged as a model's samples are.

    Empty if fewer than 16 images are held out. They are no more than those, so that their distances are higher than
    those of as many samples as models draw.
    """
    rows = held_out_rows(block, config.samples)
    if len(rows) < _FEWEST:
        return {}
    extractor, images = (
        reference.extractor(config).to(device),
        torch.cat(list(image_batches(block, reference.image_size, rows))),
    )
    conditions, found = replace(conditions_of(reference, config), n_samples=len(rows)), {}
    for name, spoil in BOUNDS.items():
        shown = spoil(images)
        samples, _ = pass_over(partial(_shown, shown.to(device)), torch.arange(len(rows)), extractor)
        compared = Compared(reference.real, samples.features, samples.pairs, wavelets=samples.wavelets)
        estimates = compared.estimates(extractor.name)
        estimates.pop("copied", None)  # held-out images are their own nearest
        found[name] = Judged(conditions=conditions, **_told(estimates, conditions))
    return found


def _shown(images: Tensor, rows: Tensor) -> tuple[Tensor, int]:
    return images[rows.to(images.device)], 0


def judge_model(
    model: Family,
    about: Mapping[str, Any],
    folder: Path,
    block: Block,
    reference: Reference,
    config: EvaluationConfig,
    cache: Path | None = None,
) -> tuple[Report, Seen]:
    """Judge the model in `folder` (`about`: its config.json) by its samples, and by its other abilities on the val
    split."""
    source = networks(model, about, folder)
    seen = judge_images(source, block, reference, config, cache, about["classes"])
    ShardCheck(block, model.image_size, range(block.shard_count())).now()  # the val images
    measured = abilities_measured(model, about["classes"], block, config, source.device)
    report = Report(
        name=about["name"],
        family=about["config"]["family"],
        fingerprint=about["fingerprint"],
        weights=about["weights"],
        recipe=_recipe(about["config"], model.config),
        seed=about["config"]["training"]["seed"],
        code=about["code"],
        parameters=sum(weight.numel() for weight in model.parameters()),
        size=_weights(folder),
        conditions=seen.conditions,
        **_told({**seen.estimates, **measured}, seen.conditions, of_weights(_stored(block, model.image_size, folder))),
        memorisation=_memorisation(seen.compared, reference),
        health=findings(reference.levels, seen.samples.levels, seen.compared.apart, _history(folder, about)),
    )
    return report, seen


def networks(model: Family, about: Mapping[str, Any], folder: Path) -> Networks:
    """The source of the images that a model is judged by: classes are as frequent as in its training."""
    return Networks(model, about["weights"], str(folder), about.get("class_counts", ()))


def _stored(block: Block, size: Size, folder: Path) -> Stored:
    return Stored(images=len(block) * math.prod(size) * block.channels, weights=_weights(folder))


def _weights(folder: Path) -> int:
    return (folder / "weights.safetensors").stat().st_size


def _told(
    estimates: Mapping[str, Estimate], conditions: Conditions, exact: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """`figures` (all in the table) and `intervals` of a Judged; `exact` ones have no interval."""
    values = {**{name: estimate.value for name, estimate in estimates.items()}, **(exact or {})}
    ends = intervals(estimates, conditions.seed)
    return {
        "figures": {name: _rounded(values.get(name)) for name in _names(conditions.extractor.name)},
        "intervals": {name: (float(f"{low:.6g}"), float(f"{high:.6g}")) for name, (low, high) in ends.items()},
    }


def _names(extractor: str) -> list[str]:
    return [figure.called(extractor) for figure in table.FIGURES]


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def conditions_of(reference: Reference, config: EvaluationConfig) -> Conditions:
    """What figures depend on besides the model."""
    about = reference.about
    known = about["extractor"]
    return Conditions(
        extractor=ExtractorId(
            name=known["name"],
            fingerprint=known["fingerprint"],
            weights=known.get("weights"),
            accuracy=known.get("val_accuracy"),
            chance=known.get("chance"),
            classes=known.get("classes"),
        ),
        block=about["block"],
        split=about["split"],
        image_size=reference.image_size,
        channels=reference.channels,
        resize=about["resize"],
        n_real=about["n"],
        n_held_out=about["n_held_out"],
        n_samples=config.samples,
        importance_samples=config.importance_samples,
        seed=config.seed,
    )


def _recipe(config: Mapping[str, Any], network: Any) -> str:
    """`network` is the family's settings. Defaults are left out, so that a new setting does not change older models."""
    usual = {**defaults(TrainingConfig), "seed": config["training"]["seed"]}
    training = {key: value for key, value in config["training"].items() if value != usual.get(key)}
    return durable.digest_json({**config, "network": chosen(network), "training": training})


def _memorisation(compared: Compared, reference: Reference) -> Memorisation | None:
    """The share, the smallest that could be detected, and both in words."""
    if (found := compared.copies) is None:
        return None
    about, copied = reference.about, found.copied.value
    verdict = f"{copied:.2%} of the samples copy training images" if found.seen else "No copies found"
    searched = f"{about['n']:,} of {about['of']:,} training images searched"
    return Memorisation(
        copied=float(f"{copied:.6g}"),
        visible=float(f"{found.visible:.6g}"),
        seen=found.seen,
        verdict=f"{verdict}; the smallest share that can be detected is {found.visible:.2%} ({searched}).",
    )


def _history(model_dir: Path, about: Mapping[str, Any]) -> list[dict[str, float]]:
    """The rows of the training's record; none if it is not beside the weights, as in the registry."""
    if not (model_dir / "history.csv").exists():
        return []
    text = read_file(model_dir, about, "history.csv").decode()
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]
