"""The settings as frozen dataclasses, each with its range and its default. genmodel/params.py reads them.

A setting that code reads is part of that code's digest (genmodel/code.py); other settings are not.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass
from typing import Annotated, Any, Literal

from genmodel.settings.schedule import Schedule
from genmodel.sizes import Size


@dataclass(frozen=True)
class Range:
    """Bounds of a number, or of both sides of a size; inclusive."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low:g}"
        if self.low is None:
            return f"at most {self.high:g}"
        return f"between {self.low:g} and {self.high:g}"


Count = Annotated[int, Range(1)]
Positive = Annotated[float, Range(1e-12)]
Share = Annotated[float, Range(0, 1)]
ImageSize = Annotated[Size, Range(8, 1024)]  # pixels: 64, or "128x64" (width x height)


def plain(value: Any) -> Any:
    """Settings as JSON returns them: mappings, lists, numbers, strings."""
    if isinstance(value, Size):
        return value.plain()
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    return [plain(each) for each in value] if isinstance(value, list | tuple) else value


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same setting: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(value, other[key]) for key, value in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def default(field: "dataclasses.Field[Any]", whole: Any = None) -> Any:
    """The default of a setting, or MISSING.

    In a ...Config inside another one, the default is the value in `whole`, the default of that ...Config: setting a
    part of it keeps the rest. Any other dataclass, like a Schedule, is a single value.
    """
    if type(whole).__name__.endswith("Config") and hasattr(whole, field.name):
        return getattr(whole, field.name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def defaults(kind: Any) -> dict[str, Any]:
    """The defaults of a settings class or instance, by name, as JSON; settings without a default are left out."""
    found = {field.name: default(field) for field in dataclasses.fields(kind)}
    return {name: plain(value) for name, value in found.items() if value is not MISSING}


def beside_defaults(settings: Any, whole: Any = None) -> Iterator[tuple[str, Any, Any]]:
    """Name, value and default (see `default`) of each setting of a dataclass."""
    for field in dataclasses.fields(settings):
        yield field.name, getattr(settings, field.name), default(field, whole)


def chosen(value: Any, whole: Any = None) -> Any:
    """`plain`, without the settings that are at their default, at any depth."""
    if dataclasses.is_dataclass(value):
        return {
            name: chosen(each, usual)
            for name, each, usual in beside_defaults(value, whole)
            if usual is MISSING or not same(plain(each), plain(usual))
        }
    if isinstance(value, Mapping):
        return {key: chosen(each) for key, each in value.items()}
    return [chosen(each) for each in value] if isinstance(value, list | tuple) else value


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained; the same for every family."""

    images: Count = 2_000_000  # the budget: images seen, not epochs and not seconds
    batch_size: Count = 64
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    flip: bool = True  # mirror half of the images; not for digits or letters
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # tf32 needs a GPU; on a CPU it is fp32
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # of the learning rates, from full to 0 at the end
    warmup: Annotated[int, Range(0)] = 0  # images over which the learning rates rise to the full ones
    clip_norm: Annotated[float, Range(0)] = 0.0  # gradients longer than this are shortened to it; 0 leaves them
    accumulate: Count = 1  # parts that a batch is split into to save memory
    deterministic: bool = False  # equal bytes from run to run on a GPU too, but slower; a CPU gives them anyway
    threads: Annotated[int, Range(0)] = 0  # on the CPU; 0 uses all cores. Another number may change the last bits
    ema_half_life: Annotated[float | Schedule, Range(0)] = 10_000  # images; 0 switches the average off
    labelled: Annotated[int, Range(1)] | None = None  # per class, chosen by the seed; others are withheld; None: all
    log_every: Count = 5_000  # images between two rows of the record
    checkpoint_every: Count = 200_000  # images


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How every model is judged: the same for all, or their figures could not be compared."""

    image_size: ImageSize = Size(64, 64)  # noqa: RUF009  # the one size at which all models are compared
    samples: Annotated[int, Range(16)] = 10_000
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    extractor: Literal["classifier", "inception", "dinov2", "pixels"] = "classifier"
    extractor_weights: str = ""  # path to inception's or dinov2's; download: fetch inception's
    classifier_images: Count = 100_000  # the classifier's training budget, images seen
    importance_samples: Count = 64  # draws of z per val image, if a model has a likelihood
    threads: Annotated[int, Range(0)] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", Size.of(self.image_size))  # 64 is also accepted


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """When a candidate takes the champion's place (DESIGN, Judgement)."""

    margin: Annotated[float, Range(0.013, 1)] = 0.013  # a smaller relative difference is noise (arXiv 2606.20536)
    intervals: bool = True  # figures whose intervals overlap count as equal, if both reports have intervals
    agreement: bool = True  # nothing is decided where other figures say the opposite beyond their intervals, if used
    min_precision: Share = 0.01  # floors: a model below has collapsed, or its output is not images
    min_recall: Share = 0.01
    max_copied: Share = 0.05  # share of samples that are copies of training images
    approval: Literal["automatic", "manual"] = "automatic"  # manual: a promotion waits for a person's word


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What new data may be like: beyond these limits a run stops before anything is trained (docs/data-report.md)."""

    max_rejects: Share = 0.01  # share of the new files that cannot be used; a single one may always be
    max_duplicates: Share = 1.0  # share of the new images that equal another one, new or old; 1: any
    keep_classes: bool = True  # data made anew from the same source have all the classes that they had
    every_class: bool = False  # an update has images of every class
    max_drift: Annotated[float, Range(0)] | None = None  # of the features, at the low end of its interval; null: any


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One model of the line: its family, its network, its training."""

    family: str
    image_size: ImageSize
    network: Any  # the family's own dataclass
    training: TrainingConfig
    model: Any  # the family's class; looked up where settings are read, so that nothing else needs to know all families

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", Size.of(self.image_size))

    def as_dict(self) -> dict[str, Any]:
        """Only the settings, for JSON."""
        return {name: plain(getattr(self, name)) for name in ("family", "image_size", "network", "training")}
