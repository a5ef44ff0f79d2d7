"""One pass over samples: all that figures need from them, cached by (source, codes, extractor).

Codes are those of images 0 .. n - 1 of a seed; they also depend on the Space and on how often each class is drawn.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from genmodel import code
from genmodel.errors import ModelError
from genmodel.evaluation.extractors.features import BATCH_SIZE, Extractor, Features
from genmodel.evaluation.extractors.wavelets import wavelets
from genmodel.evaluation.figures.health import Levels, Meter
from genmodel.evaluation.figures.latent import walks
from genmodel.evaluation.figures.similarity import ms_ssim
from genmodel.files import durable, tensors
from genmodel.sampling.draw import ImageSource
from genmodel.sampling.walks import smooth_walks

_PAIRS = 1000  # at most: enough for a narrow interval of their mean
_WALKS, _FRAMES = 32, 16  # between pairs of the first samples
_KEPT = 32  # newest passes


class Samples(NamedTuple):
    """Of N samples: features, those that need no labels, MS-SSIM of pairs of them (float64 [P]), levels, what
    walks.measure tells of walks between them, the classes asked for."""

    features: Features
    wavelets: Tensor  # float32 [N, d]
    pairs: Tensor
    levels: Levels
    walks: Tensor | None = None  # float64 [W, 3]; None for noise without meaning
    asked: Tensor | None = None  # int64 [N]; None for an unconditional model


@dataclass(frozen=True)
class Pass:
    """The speed of sampling and of features; None if they came from the cache."""

    sampling_images_per_second: float | None = None
    features_images_per_second: float | None = None


def take(
    source: ImageSource, n: int, seed: int, extractor: Extractor, cache: Path | None = None
) -> tuple[Samples, Pass]:
    """`n` samples, from codes that `seed` decides, through the extractor; from `cache` if this was done before.

    A cached pass is checked by its digest, and made again if it is damaged, or if the code that made it has changed; an
    extractor's code is in its fingerprint.
    """
    about = {
        "source": source.key,
        "codes": {
            "n": n,
            "seed": seed,
            "batch": BATCH_SIZE,
            "space": source.space.as_dict(),
            "shares": [float(share) for share in source.shares],
        },
        "extractor": extractor.fingerprint,
        "code": code.digest(__name__, *source.modules),
        "by": {"torch": torch.__version__, "device": source.device.type},
    }
    place = None if cache is None else cache / f"{durable.digest_json(about)[:32]}.safetensors"
    codes = source.codes(n, seed)
    asked = codes[:, -1].long() if len(source.shares) else None
    if place is not None and (kept := _read(place)) is not None:
        return kept._replace(asked=asked), Pass()
    samples, took = pass_over(source.draw, codes, extractor)
    samples = samples._replace(walks=_walked(source, codes, extractor))
    if place is not None:
        _keep(place, about, samples)
    return samples._replace(asked=asked), took


@torch.no_grad()
def pass_over(
    draw: Callable[[Tensor], tuple[Tensor, int]], drawn: Tensor, extractor: Extractor
) -> tuple[Samples, Pass]:
    """The images that `draw` (ImageSource.draw) makes of `drawn`, through the extractor, a batch at a time."""
    meter, parts = Meter(), []
    plain: list[Tensor] = []
    pairs: list[Tensor] = []
    seconds = {"sampling": 0.0, "features": 0.0}
    start = time.perf_counter()
    for codes in drawn.split(BATCH_SIZE):
        images, broken = draw(codes)
        meter.add(images, broken)
        plain.append(wavelets(images).cpu())
        middle = time.perf_counter()
        values, logits = extractor(images)
        parts.append((values.float().cpu(), None if logits is None else logits.float().cpu()))
        end = time.perf_counter()
        if len(pairs) * (BATCH_SIZE // 2) < _PAIRS:
            levels, whole = images.permute(0, 3, 1, 2), len(images) // 2 * 2
            pairs.append(ms_ssim(levels[0:whole:2], levels[1:whole:2]).cpu())
        seconds["sampling"] += middle - start
        seconds["features"] += end - middle
        start = time.perf_counter()
    told = [logits for _, logits in parts if logits is not None]
    features = Features(torch.cat([values for values, _ in parts]), torch.cat(told) if told else None)
    took = Pass(len(drawn) / seconds["sampling"], len(drawn) / seconds["features"])
    return Samples(features, torch.cat(plain), torch.cat(pairs)[:_PAIRS], meter.levels()), took


@torch.no_grad()
def _walked(source: ImageSource, drawn: Tensor, extractor: Extractor) -> Tensor | None:
    """What walks between the first of `drawn`, which are codes, are like in the extractor's features."""
    if not source.space.meaningful:
        return None
    codes = smooth_walks(drawn[: min(2 * _WALKS, len(drawn) // 2 * 2)], source.space, _FRAMES)
    parts = [extractor(source.draw(some)[0])[0].float().cpu() for some in codes.flatten(0, 1).split(BATCH_SIZE)]
    return walks.measure(torch.cat(parts).unflatten(0, codes.shape[:2]))


def _keep(place: Path, about: dict[str, Any], samples: Samples) -> None:
    content = {"values": samples.features.values, "wavelets": samples.wavelets, "pairs": samples.pairs}
    if samples.features.logits is not None:
        content["logits"] = samples.features.logits
    if samples.walks is not None:
        content["walks"] = samples.walks
    digest = tensors.save(place, content)
    durable.write_sealed(place.with_suffix(".json"), {"sha256": digest, "levels": asdict(samples.levels), **about})
    for old in sorted(place.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)[:-_KEPT]:
        old.unlink(missing_ok=True)
        old.with_suffix(".safetensors").unlink(missing_ok=True)


def _read(place: Path) -> Samples | None:
    try:
        about = durable.read_sealed(place.with_suffix(".json"), ModelError, "it is made again")
        content, _ = tensors.load(place, about["sha256"])
        levels = Levels(**about["levels"])
    except (ModelError, KeyError, TypeError):
        return None
    features = Features(content["values"], content.get("logits"))
    return Samples(features, content["wavelets"], content["pairs"], levels, content.get("walks"))
