"""The reference: extractor, features and moments of the real images that every model is measured against."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor

from genmodel import durable, tensors
from genmodel.config import EvaluationConfig
from genmodel.data.block import Block
from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation.extractors import EXTRACTORS
from genmodel.evaluation.features import Extractor, extract, image_batches, spread
from genmodel.evaluation.statistics import Moments, moments

_SPLIT: Literal["train"] = "train"


@dataclass(frozen=True)
class Reference:
    """A reference folder: reference.json as `about`, features float32 [n, d], moments float64."""

    path: Path
    about: dict[str, Any]
    moments: Moments
    features: Tensor

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a reference folder; EvaluationError if it is missing, ModelError if a file of it is damaged."""
        try:
            about = json.loads((path / "reference.json").read_text())
            digest = about["files"]["statistics.safetensors"]
        except FileNotFoundError as error:
            raise EvaluationError(f"{path / 'reference.json'} is missing: make the reference first") from error
        except (ValueError, KeyError, TypeError) as error:
            raise EvaluationError(f"{path / 'reference.json'} is damaged: make the reference again") from error
        parts, _ = tensors.load(path / "statistics.safetensors", digest)
        return cls(path, about, Moments(parts["mean"], parts["covariance"]), parts["features"])

    def check(self, block: Block) -> None:
        """IncomparableError if the reference was made of another block than this."""
        for key, mine, now in (
            ("block", self.about["block"], block.digest),
            ("resize", self.about["resize"], block.resize),
        ):
            if mine != now:
                raise IncomparableError(
                    f"{self.path} was made for {key} {mine[:12]}, but {block.path} has {now[:12]}: make it again"
                )
        if self.about["image_size"] not in block.sizes:
            sizes = ", ".join(str(size) for size in block.sizes)
            raise IncomparableError(
                f"{self.path} was made at {self.about['image_size']} px, but {block.path} holds {sizes}: make it again"
            )

    def extractor(self, config: EvaluationConfig) -> Extractor:
        """The extractor that made these features; IncomparableError if the settings or its weights are others now."""
        entry = self.about["extractor"]
        if entry["name"] != config.extractor:
            raise IncomparableError(
                f"{self.path} was made with extractor {entry['name']}, but evaluation.extractor is {config.extractor}:"
                " make the reference again"
            )
        extractor = EXTRACTORS[config.extractor].load(self.path, self.about, config)
        if extractor.fingerprint != entry["fingerprint"]:
            raise IncomparableError(f"{self.path} was made with another {entry['name']}: make the reference again")
        return extractor


def make_reference(
    block: Block, image_size: int, config: EvaluationConfig, out: Path, device: str = "cpu"
) -> Reference:
    """Train or load the extractor, and write features and moments of at most `config.samples` train images to `out`."""
    if config.threads:
        torch.set_num_threads(config.threads)
    rows = spread(block.rows(_SPLIT), config.samples)
    if len(rows) < 2:
        raise EvaluationError(f"{block.path} has {len(rows)} {_SPLIT} images, and a reference needs at least 2")
    extractor = EXTRACTORS[config.extractor].make(block, image_size, config, device).to(device)
    features = extract(extractor, image_batches(block, image_size, rows), device).values
    mean, covariance = moments(features)

    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    statistics = {"mean": mean, "covariance": covariance, "features": features}
    files = {"statistics.safetensors": tensors.save(aside / "statistics.safetensors", statistics)}
    if weights := extractor.weights():
        files["extractor.safetensors"] = tensors.save(aside / "extractor.safetensors", weights)
    about = {
        "extractor": extractor.about(),
        "block": block.digest,
        "image_size": image_size,
        "resize": block.resize,
        "split": _SPLIT,
        "n": len(rows),
        "files": files,
    }
    durable.write_json(aside / "reference.json", about)
    durable.replace_folder(aside, out)
    return Reference.open(out)
