"""The evaluation of one model: samples -> features -> figures, with the conditions that they were made under."""

import csv
import io
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from genmodel import durable, pixels
from genmodel.config import EvaluationConfig
from genmodel.cpu import use_cpu
from genmodel.data.block import Block
from genmodel.data.check import ShardCheck
from genmodel.errors import IncomparableError
from genmodel.evaluation.bootstrap import intervals
from genmodel.evaluation.figures import Judged, judge
from genmodel.evaluation.health import findings
from genmodel.evaluation.likelihood import likelihood
from genmodel.evaluation.pairwise import nearest
from genmodel.evaluation.reference import Reference
from genmodel.evaluation.samples import Samples, take
from genmodel.folder import read_file
from genmodel.models.base import GenerativeModel
from genmodel.pixels import to_uint8
from genmodel.saved import draw_codes, generate_batches, load_model

_SHOWN, _NEIGHBOURS = 16, 3  # samples on the picture, and training images beside each


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


def evaluate(
    model_dir: Path,
    block: Block,
    reference: Reference,
    config: EvaluationConfig,
    device: str = "cpu",
    *,
    cache: Path | None = None,
    picture: Path | None = None,
) -> tuple[Report, Timing]:
    """Judge the model in `model_dir` by `config.samples` samples, and by the val split where it has a likelihood.

    Features of samples are kept in the folder `cache`. `picture` is a PNG of samples beside the training images next
    to them. IncomparableError if the reference fits neither block, settings nor the model's image size.
    """
    start = time.perf_counter()
    use_cpu(config.threads)
    reference.check(block, config)
    model, about = load_model(model_dir, device)
    image_size = reference.about["image_size"]
    if model.image_size != image_size:
        raise IncomparableError(
            f"{model_dir} makes images of {model.image_size} px, but {reference.path} was made at {image_size} px:"
            " make a reference of the model's size"
        )
    ShardCheck(block, image_size, range(block.shard_count())).now()  # the val images, and those of the picture
    extractor = reference.extractor(config).to(device)
    samples, took = take(model, about["weights"], config.samples, config.seed, extractor, cache)
    searched = reference.about["n"] / reference.about["of"]
    judged = judge(reference.real, samples.features, samples.pairs, extractor.name, searched)
    estimates = {**judged.estimates, **likelihood(model, block, image_size, config, device)}
    known = {name: estimate for name, estimate in estimates.items() if estimate is not None}
    if picture is not None:
        _draw_neighbours(picture, model, block, reference, samples, judged, config)
    report = Report(
        name=about["name"],
        family=about["config"]["family"],
        fingerprint=about["fingerprint"],
        weights=about["weights"],
        recipe=_recipe(about["config"]),
        seed=about["config"]["training"]["seed"],
        code=about["code"],
        parameters=sum(weight.numel() for weight in model.parameters()),
        size=(model_dir / "weights.safetensors").stat().st_size,
        conditions=_conditions(reference, config),
        figures={name: None if estimate is None else estimate.value for name, estimate in estimates.items()},
        intervals=intervals(known, config.seed),
        memorisation=_memorisation(judged, reference),
        health=findings(reference.levels, samples.levels, judged.samples_apart, _history(model_dir, about)),
    )
    return report, Timing(seconds=time.perf_counter() - start, **asdict(took))


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


def _recipe(config: dict[str, Any]) -> str:
    training = {key: value for key, value in config["training"].items() if key != "seed"}
    return durable.digest_json({**config, "training": training})


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


def _history(model_dir: Path, about: dict[str, Any]) -> list[dict[str, float]]:
    """The rows of the training's record; none where it does not lie beside the weights, as in the registry."""
    if not (model_dir / "history.csv").exists():
        return []
    text = read_file(model_dir, about, "history.csv").decode()
    return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(io.StringIO(text))]


@torch.inference_mode()
def _draw_neighbours(
    path: Path,
    model: GenerativeModel,
    block: Block,
    reference: Reference,
    samples: Samples,
    judged: Judged,
    config: EvaluationConfig,
) -> None:
    """Samples, each with its 3 nearest training images to its right; the most suspicious first, then any."""
    order = list(range(config.samples))
    if judged.memorisation is not None:
        suspicious = judged.memorisation.ratios.argsort(stable=True)[: _SHOWN // 2].tolist()
        order = [*suspicious, *(row for row in order if row not in suspicious)]
    chosen = torch.tensor(order[:_SHOWN])
    codes = draw_codes(model, config.samples, config.seed)[chosen]
    images = torch.cat([to_uint8(made).cpu() for made in generate_batches(model, codes)])
    rows = reference.rows(block)[nearest(samples.features.values[chosen], reference.real.features, _NEIGHBOURS)[1]]
    size = reference.about["image_size"]
    real = torch.from_numpy(block.gather(size, rows.reshape(-1))).reshape(len(chosen), _NEIGHBOURS, size, size, 3)
    tiles = torch.cat([images[:, None], real], dim=1).flatten(0, 1)
    pixels.save_grid(path, tiles, columns=2 * (1 + _NEIGHBOURS))


def _rounded(value: float | None) -> float | str | None:
    if value is None:
        return None
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)
