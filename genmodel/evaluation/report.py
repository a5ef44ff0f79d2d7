"""What is told of one model: samples -> features -> figures, with the conditions that they were made under.

Images are judged whatever draws them; what needs the networks is added where they are here.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from genmodel import durable
from genmodel.cpu import use_cpu
from genmodel.data.block import Block
from genmodel.data.check import ShardCheck
from genmodel.errors import IncomparableError
from genmodel.evaluation.bootstrap import intervals
from genmodel.evaluation.figures import Judged, judge
from genmodel.evaluation.health import findings
from genmodel.evaluation.likelihood import likelihood
from genmodel.evaluation.reference import Reference
from genmodel.evaluation.samples import Pass, Samples, take
from genmodel.folder import read_file
from genmodel.models.base import GenerativeModel
from genmodel.sampling import ImageSource, Networks
from genmodel.settings import EvaluationConfig, TrainingConfig, chosen, defaults


@dataclass(frozen=True, kw_only=True)
class Report:
    """What is known of a model's quality. Reports of unlike `conditions` must not be compared."""

    name: str
    family: str
    fingerprint: str
    weights: str  # sha256
    recipe: str  # digest of all settings but the seed: models of one recipe show how far the seed alone moves figures
    seed: int  # of the training
    code: str  # sha256 of the code that trained it
    parameters: int  # of all its networks
    size: int  # bytes of its weights on disk
    conditions: dict[str, Any]
    figures: dict[str, float | None]  # None: the figure does not apply to the family, or to the block
    intervals: dict[str, tuple[float, float]]  # 95%, of the figures that apply
    memorisation: dict[str, Any] | None  # None: nothing was held out to compare with
    health: list[str]  # what is wrong, a sentence each

    def as_dict(self) -> dict[str, Any]:
        """For JSON: figures with 6 significant digits, and as text ("nan", "inf") where they are no numbers."""
        return {
            **asdict(self),
            "figures": {name: _rounded(value) for name, value in self.figures.items()},
            "intervals": {name: [_rounded(end) for end in ends] for name, ends in self.intervals.items()},
        }


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What the evaluation took; kept apart from the Report, which is the same every time."""

    seconds: float
    sampling_images_per_second: float | None  # None: the samples' features were kept from before
    features_images_per_second: float | None

    def as_dict(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}


class Seen(NamedTuple):
    """What was found out about images by looking at them alone."""

    samples: Samples
    judged: Judged
    took: Pass


def judge_images(
    source: ImageSource, block: Block, reference: Reference, config: EvaluationConfig, cache: Path | None = None
) -> Seen:
    """Judge `config.samples` images of whatever draws them; their features are kept in the folder `cache`.

    IncomparableError if the reference fits neither block, settings nor the images' size.
    """
    use_cpu(config.threads)
    reference.check(block, config)
    image_size = reference.about["image_size"]
    if source.image_size != image_size:
        raise IncomparableError(
            f"{source.name} makes images of {source.image_size} px, but {reference.path} was made at {image_size} px:"
            " make a reference of the model's size"
        )
    extractor = reference.extractor(config).to(source.device)
    samples, took = take(source, config.samples, config.seed, extractor, cache)
    searched = reference.about["n"] / reference.about["of"]
    return Seen(samples, judge(reference.real, samples.features, samples.pairs, extractor.name, searched), took)


def as_judged(seen: Seen, reference: Reference, config: EvaluationConfig) -> dict[str, Any]:
    """What of a Report.as_dict images alone can tell: conditions, figures, intervals."""
    estimates = seen.judged.estimates
    return {
        "conditions": _conditions(reference, config),
        "figures": {name: _rounded(estimate.value) for name, estimate in estimates.items()},
        "intervals": {
            name: [_rounded(end) for end in ends] for name, ends in intervals(estimates, config.seed).items()
        },
    }


def judge_model(
    model: GenerativeModel,
    about: Mapping[str, Any],
    folder: Path,
    block: Block,
    reference: Reference,
    config: EvaluationConfig,
    cache: Path | None = None,
) -> tuple[Report, Seen]:
    """Judge the model in `folder` (`about`: its config.json) by its samples and, where it has a likelihood, by that of
    the val split."""
    source = Networks(model, about["weights"], str(folder))
    seen = judge_images(source, block, reference, config, cache)
    ShardCheck(block, model.image_size, range(block.shard_count())).now()  # the val images
    estimates = {**seen.judged.estimates, **likelihood(model, block, model.image_size, config, source.device)}
    known = {name: estimate for name, estimate in estimates.items() if estimate is not None}
    apart = seen.judged.samples_apart
    report = Report(
        name=about["name"],
        family=about["config"]["family"],
        fingerprint=about["fingerprint"],
        weights=about["weights"],
        recipe=_recipe(about["config"], model.config),
        seed=about["config"]["training"]["seed"],
        code=about["code"],
        parameters=sum(weight.numel() for weight in model.parameters()),
        size=(folder / "weights.safetensors").stat().st_size,
        conditions=_conditions(reference, config),
        figures={name: None if estimate is None else estimate.value for name, estimate in estimates.items()},
        intervals=intervals(known, config.seed),
        memorisation=_memorisation(seen.judged, reference),
        health=findings(reference.levels, seen.samples.levels, apart, _history(folder, about)),
    )
    return report, seen


def _conditions(reference: Reference, config: EvaluationConfig) -> dict[str, Any]:
    """All that figures depend on besides the model."""
    about = reference.about
    known = ("name", "fingerprint", "weights")  # of weights that were given as a file, their sha256
    return {
        "extractor": {key: about["extractor"][key] for key in known if key in about["extractor"]},
        "block": about["block"],
        "split": about["split"],
        "image_size": about["image_size"],
        "resize": about["resize"],
        "n_real": about["n"],
        "n_held_out": about["n_held_out"],
        "n_samples": config.samples,
        "importance_samples": config.importance_samples,
        "seed": config.seed,
    }


def _recipe(config: Mapping[str, Any], network: Any) -> str:
    """`network` are the family's settings. What is at its default is left out, so that older models lack nothing."""
    usual = {**defaults(TrainingConfig), "seed": config["training"]["seed"]}
    training = {key: value for key, value in config["training"].items() if value != usual.get(key)}
    return durable.digest_json({**config, "network": chosen(network), "training": training})


def _memorisation(judged: Judged, reference: Reference) -> dict[str, Any] | None:
    """What the report says of it: the share, the smallest that could be seen, and both in words."""
    if (found := judged.memorisation) is None:
        return None
    about, copied = reference.about, found.copied.value
    verdict = f"{copied:.2%} of the samples copy training images" if found.seen else "No copies seen"
    searched = f"{about['n']:,} of {about['of']:,} training images searched"
    return {
        "copied": _rounded(copied),
        "visible": _rounded(found.visible),
        "seen": found.seen,
        "verdict": f"{verdict}; the smallest share that can be seen is {found.visible:.2%} ({searched}).",
    }


def _history(model_dir: Path, about: Mapping[str, Any]) -> list[dict[str, float]]:
    """The rows of the training's record; none where it does not lie beside the weights, as in the registry."""
    if not (model_dir / "history.csv").exists():
        return []
    text = read_file(model_dir, about, "history.csv").decode()
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]


def _rounded(value: float | None) -> float | str | None:
    if value is None:
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)
