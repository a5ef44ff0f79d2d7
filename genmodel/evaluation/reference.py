"""The reference: the extractor, and the features of the real images that every model is measured against."""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genmodel.data.block import Block
from genmodel.data.check import ShardCheck
from genmodel.devices import use_cpu
from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation.extractors.choice import EXTRACTORS
from genmodel.evaluation.extractors.features import Extractor, extract, held_out_rows, image_batches, spread
from genmodel.evaluation.extractors.wavelets import wavelets
from genmodel.evaluation.figures.health import Levels, Meter
from genmodel.evaluation.figures.pairwise import NEAREST
from genmodel.evaluation.figures.real import Real
from genmodel.files import durable, tensors
from genmodel.output.counting import counted
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import CHANNELS, Size

_SPLIT: Literal["train"] = "train"
_DECIDE = ("extractor", "extractor_weights", "classifier_images", "seed")  # with the size, decide a trained extractor
_FIX = "restore it (dvc checkout reference), or delete its folder and make it again with a new extractor"


@dataclass(frozen=True)
class Reference:
    """A reference folder: reference.json as `about`, and the statistics of the real images."""

    path: Path
    about: dict[str, Any]
    real: Real

    @classmethod
    def open(cls, path: Path) -> Self:
        """Read a reference folder; EvaluationError if it is missing, ModelError if one of its files is damaged."""
        about = durable.read_sealed(path / "reference.json", EvaluationError, _FIX)
        parts, _ = tensors.load(path / "statistics.safetensors", about["files"]["statistics.safetensors"])
        if parts.keys() != set(Real._fields):
            raise EvaluationError(f"{path} was made by another version of this code: make the reference again")
        return cls(path, about, Real(**parts))

    @property
    def image_size(self) -> Size:
        return Size.of(self.about["image_size"])

    @property
    def channels(self) -> int:
        return int(self.about.get("channels", 3))

    @property
    def levels(self) -> Levels:
        """Of the real images."""
        return Levels(**self.about["levels"])

    def rows(self, block: Block) -> NDArray[np.int64]:
        """The block's rows that the features were computed from, in order."""
        return spread(block.rows(_SPLIT), self.about["n"])

    def check(self, block: Block, config: EvaluationConfig) -> None:
        """IncomparableError if the reference was made from another block, split or number of images than asked for."""
        rows = len(block.rows(_SPLIT))
        for key, mine, now in (
            ("block", self.about["block"], block.digest),
            ("resize", self.about["resize"], block.resize),
            ("channels", self.channels, block.channels),
            ("split", self.about["split"], _SPLIT),
            ("number of images", self.about["n"], min(config.samples, rows)),
        ):
            if mine != now:
                raise IncomparableError(
                    f"{self.path} was made for {key} {str(mine)[:12]}, but {block.path} and evaluation.samples"
                    f" now give {str(now)[:12]}: make it again"
                )
        if self.image_size not in block.sizes:
            sizes = ", ".join(str(size) for size in block.sizes)
            raise IncomparableError(
                f"{self.path} was made at {self.about['image_size']} px, but {block.path} holds {sizes}: make it again"
            )

    def extractor(self, config: EvaluationConfig) -> Extractor:
        """The extractor that made these features; IncomparableError if the settings or its weights have changed."""
        entry = self.about["extractor"]
        if entry["name"] != config.extractor:
            raise IncomparableError(
                f"{self.path} was made with extractor {entry['name']}, but evaluation.extractor is {config.extractor}:"
                " make the reference again"
            )
        if entry.get("version") != EXTRACTORS[config.extractor].version:
            raise IncomparableError(f"{self.path} was made by another version of this code: make the reference again")
        extractor = EXTRACTORS[config.extractor].load(self.path, self.about, config)
        if extractor.fingerprint != entry["fingerprint"]:
            raise IncomparableError(f"{self.path} was made with another {entry['name']}: make the reference again")
        return extractor


def make_reference(
    block: Block, image_size: Size, config: EvaluationConfig, out: Path, device: str = "cpu", renew: bool = False
) -> Reference:
    """Write the features of at most `config.samples` train images to `out`, and the extractor that made them.

    An extractor that was trained here is kept even when data and code change, so that figures stay comparable: the one
    in `out` is reused, unless a setting that decides it has changed, or with `renew`. Either is printed.
    EvaluationError or ModelError if an existing reference is damaged.
    """
    use_cpu(config.threads)
    rows, held_out = spread(block.rows(_SPLIT), config.samples), held_out_rows(block, config.samples)
    if len(rows) <= NEAREST:
        raise EvaluationError(
            f"{block.path} has {counted(len(rows), f'{_SPLIT} image')}; a reference needs at least {NEAREST + 1}"
        )
    ShardCheck(block, image_size, range(block.shard_count())).now()
    asked = {"image_size": image_size.plain(), **{name: getattr(config, name) for name in _DECIDE}}
    extractor = None if renew else _kept(out, asked, block.channels, config)
    if renew:
        print("extractor renewed, as asked: all models and the champion are judged by it from now on")
    if extractor is None:
        extractor = EXTRACTORS[config.extractor].make(block, image_size, config, device)
    extractor = extractor.to(device)
    meter = Meter()
    plain: list[Tensor] = []
    features = extract(extractor, _metered(image_batches(block, image_size, rows), meter, plain), device).values
    control = features[:0]
    if len(held_out):
        control = extract(extractor, image_batches(block, image_size, held_out), device).values

    aside = out.with_name(f".{out.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    statistics = Real.of(features, control, torch.cat(plain))._asdict()
    files = {"statistics.safetensors": tensors.save(aside / "statistics.safetensors", statistics)}
    if weights := extractor.weights():
        files["extractor.safetensors"] = tensors.save(aside / "extractor.safetensors", weights)
    about = {
        "extractor": extractor.about(),
        "extractor_settings": asked,
        "block": block.digest,
        "image_size": image_size.plain(),
        "channels": block.channels,
        "resize": block.resize,
        "split": _SPLIT,
        "n": len(rows),
        "of": len(block.rows(_SPLIT)),
        "n_held_out": len(held_out),
        "levels": asdict(meter.levels()),
        "files": files,
    }
    durable.write_sealed(aside / "reference.json", about)
    durable.replace_folder(aside, out)
    return Reference.open(out)


def _kept(out: Path, asked: dict[str, Any], channels: int, config: EvaluationConfig) -> Extractor | None:
    """The extractor in the reference `out`, if it was trained with the settings `asked` on images of `channels`; prints
    why if it was not.

    An extractor that is not stored there comes from a weights file or needs none: it is the same every time.
    """
    if not (out / "reference.json").exists():
        return None
    about = durable.read_sealed(out / "reference.json", EvaluationError, _FIX)
    before, had = about["extractor_settings"], about.get("channels", 3)
    if changes := [
        f"evaluation.{name} {before.get(name)} -> {asked[name]}" for name in asked if before[name] != asked[name]
    ]:
        print(f"extractor renewed: {', '.join(changes)}")
        return None
    if had != channels:
        print(f"extractor renewed: the images are {CHANNELS[channels]} and were {CHANNELS[had]}")
        return None
    if "extractor.safetensors" not in about["files"]:
        return None
    if about["extractor"].get("version") != EXTRACTORS[config.extractor].version:
        print(f"extractor renewed: this version of the code has another {config.extractor}")
        return None
    extractor = EXTRACTORS[config.extractor].load(out, about, config)
    if extractor.fingerprint != about["extractor"]["fingerprint"]:
        print(f"extractor renewed: this version of the code has another {config.extractor}")
        return None
    return extractor


def _metered(batches: Iterator[Tensor], meter: Meter, plain: list[Tensor]) -> Iterator[Tensor]:
    for images in batches:
        meter.add(images)
        plain.append(wavelets(images))
        yield images
