"""Settings: params.yaml and --set, read into frozen dataclasses; a wrong key, type or range names the mend.

Ranges stand in the annotations (`Annotated[int, Range(1)]`), so that a setting is described in one place.
"""

import dataclasses
import difflib
import json
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from genmodel.errors import ConfigError

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_MAX_NODES = 100_000  # values in a YAML file


@dataclass(frozen=True)
class Range:
    """Bounds of a number, both included."""

    low: float | None = None
    high: float | None = None

    def __contains__(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.high is None:
            return f"at least {self.low:g}"
        return f"between {self.low:g} and {self.high:g}"


Count = Annotated[int, Range(1)]
Positive = Annotated[float, Range(1e-12)]
Share = Annotated[float, Range(0, 1)]
ImageSize = Annotated[int, Range(8, 1024)]  # pixels a side


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a model is trained; the same for every family."""

    images: Count = 2_000_000  # the budget: images seen, not epochs and not seconds
    batch_size: Count = 64
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    flip: bool = True  # mirror half of the images; not for digits or letters
    precision: Literal["fp32", "tf32", "bf16"] = "fp32"  # tf32 is a GPU's; on a CPU it is fp32
    schedule: Literal["constant", "linear", "cosine"] = "constant"  # of the learning rates, from full to 0 at the end
    warmup: Annotated[int, Range(0)] = 0  # images over which the learning rates rise to the full ones
    clip_norm: Annotated[float, Range(0)] = 0.0  # gradients longer than this are shortened to it; 0 leaves them
    accumulate: Count = 1  # parts that a batch goes through the networks in, for want of memory
    deterministic: bool = False  # equal bytes from run to run on a GPU, too, at some speed; a CPU gives them anyway
    threads: Annotated[int, Range(0)] = 0  # of the CPU; 0 takes all cores. Another number may change the last bits
    ema_half_life: Annotated[float, Range(0)] = 10_000  # images; 0 switches the average off
    log_every: Count = 5_000  # images between two rows of the record
    checkpoint_every: Count = 200_000  # images


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """How every model is judged: the same for all, or their figures could not stand side by side."""

    image_size: ImageSize = 64  # the one size at which all models are compared
    samples: Annotated[int, Range(16)] = 10_000
    seed: Annotated[int, Range(0, 2**31 - 1)] = 0
    extractor: Literal["classifier", "inception", "dinov2", "pixels"] = "classifier"
    extractor_weights: str = ""  # path of those of inception or dinov2; download: fetch inception's
    classifier_images: Count = 100_000  # the classifier's training budget, images seen
    importance_samples: Count = 64  # of z for each val image, where a model has a likelihood
    threads: Annotated[int, Range(0)] = 0


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """When a candidate takes the champion's place (DESIGN, Judgement)."""

    margin: Annotated[float, Range(0.013, 1)] = 0.013  # a smaller relative difference is noise (arXiv 2606.20536)
    intervals: bool = True  # figures whose intervals overlap are not told apart, where both reports have intervals
    min_precision: Share = 0.01  # floors: a model below has collapsed, or paints what is no image
    min_recall: Share = 0.01
    max_copied: Share = 0.05  # share of samples that are copies of training images


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """One model of the line: its family, its network, its training."""

    family: str
    image_size: ImageSize
    network: Any  # the family's own dataclass
    training: TrainingConfig

    def as_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class Params:
    """All of params.yaml."""

    models: dict[str, RunConfig]
    evaluation: EvaluationConfig
    gate: GateConfig


def build(cls: type[T], values: Any, where: str) -> T:
    """Make the dataclass `cls` of a mapping.

    `where` names the mapping's place ("params.yaml: models.vae.training") in the ConfigError that an unknown key,
    a wrong type or a value out of range raises.
    """
    values = _mapping(values, where)
    hints = typing.get_type_hints(cls, include_extras=True)
    check_keys(values, hints, where)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    # defaults pass through the same checks: 10_000 and 10_000.0 must not give two fingerprints
    whole = {field.name: values.get(field.name, field.default) for field in fields}
    return cls(**{key: _value(hints[key], value, f"{where}.{key}") for key, value in whole.items()})


def _mapping(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must hold keys and values, not {values!r}")
    return dict(values)


def check_keys(values: Mapping[str, Any], known: Mapping[str, Any] | Sequence[str], where: str) -> None:
    """ConfigError for a key that is not known, with the nearest known one."""
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), list(known), n=1, cutoff=0)
            raise ConfigError(f"{where}: unknown key {key!r}; did you mean {near[0] if near else 'nothing'!r}?")


def _value(kind: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where)  # type: ignore[arg-type]
    bounds: Range | None = None
    if typing.get_origin(kind) is Annotated:
        kind, bounds = typing.get_args(kind)[:2]
    if typing.get_origin(kind) is Literal:
        choices = typing.get_args(kind)
        if value not in choices:
            near = difflib.get_close_matches(str(value), choices, n=1, cutoff=0)
            raise ConfigError(f"{where}: {value!r} is none of {', '.join(choices)}; did you mean {near[0]!r}?")
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if kind is not Any and not isinstance(kind, types.GenericAlias) and type(value) is not kind:
        hint = " (in YAML a power of ten needs a point and a sign: 2.0e-4)" if kind is float else ""
        raise ConfigError(f"{where}: must be {_NOUNS[kind]}, not {value!r}{hint}")
    if bounds is not None and value not in bounds:
        raise ConfigError(f"{where}: must be {bounds}, not {value!r}")
    return value


_NOUNS = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError if it is missing or no mapping."""
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(f"reading {path} needs PyYAML: pip install pyyaml, or use --set") from error
    try:
        text = path.read_text()
        if _expanded(yaml.compose(text, yaml.SafeLoader), {}) > _MAX_NODES:
            raise ConfigError(
                f"{path} grows beyond {_MAX_NODES:,} values through its aliases (*name): write it plainly"
            )
        content = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: no UTF-8, a date that does not exist
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys and values")
    return content


def _expanded(node: Any, sizes: dict[int, float]) -> float:
    """How many values a YAML node stands for, those that aliases repeat counted anew; without end in a circle."""
    if node is None or isinstance(node.value, str):
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = math.inf
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(node)] = 1 + sum(_expanded(part, sizes) for part in parts)
    return sizes[id(node)]


def read_params(path: Path) -> Params:
    """Read and check all of params.yaml."""
    content = read_yaml(path)
    check_keys(content, ["models", "evaluation", "gate"], str(path))
    return Params(
        models={name: run_config(content["models"][name], f"{path}: models.{name}") for name in model_names(path)},
        evaluation=build(EvaluationConfig, content.get("evaluation") or {}, f"{path}: evaluation"),
        gate=read_gate(path),
    )


def read_gate(path: Path) -> GateConfig:
    """The part `gate` of params.yaml alone."""
    return build(GateConfig, read_yaml(path).get("gate") or {}, f"{path}: gate")


def model_names(path: Path) -> list[str]:
    """The names of params.yaml's models, in its order: what they say, `read_params` checks."""
    models = read_yaml(path).get("models")
    if not isinstance(models, dict) or not models:
        raise ConfigError(f"{path}: models must name at least one model")
    for name in models:
        check_name(name, f"{path}: models")
    return list(models)


def check_name(name: Any, where: str) -> None:
    """ConfigError for a model's name that could mean more than a name in a path, a command or a report."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} is not a model's name: use up to 64 of the letters a-z and A-Z, digits, - _ and ., "
            "beginning with a letter or digit"
        )


def check_names(path: Path) -> None:
    """ConfigError for a model's name in params.yaml that is none; quick, and without the rest of the file."""
    models = read_yaml(path).get("models")
    for name in models if isinstance(models, dict) else []:
        check_name(name, f"{path.name}: models")


def run_config(values: Any, where: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The RunConfig of a mapping (family, image_size, network, training) and of `key=value` overrides."""
    from genmodel.models.configs import CONFIGS

    values = _mapping(values, where)
    check_keys(values, ["family", "image_size", "network", "training"], where)
    family = values.get("family")
    if family not in CONFIGS:
        near = difflib.get_close_matches(str(family), CONFIGS, n=1, cutoff=0)
        raise ConfigError(f"{where}: family {family!r} is none of {', '.join(CONFIGS)}; did you mean {near[0]!r}?")
    network = CONFIGS[family]
    parts: dict[str, Any] = {
        "family": family,
        "image_size": values.get("image_size", 64),
        "network": _mapping(values.get("network") or {}, f"{where}.network"),
        "training": _mapping(values.get("training") or {}, f"{where}.training"),
    }
    for override in overrides:
        _override(parts, override, network)
    return RunConfig(
        family=family,
        image_size=_value(ImageSize, parts["image_size"], f"{where}.image_size"),
        network=build(network, parts["network"], f"{where}.network"),
        training=build(TrainingConfig, parts["training"], f"{where}.training"),
    )


def _override(parts: dict[str, Any], override: str, network: type) -> None:
    """Apply `batch_size=128` (or `training.batch_size=128`) to the part that has such a key."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write key=value")
    places = {"image_size": (parts, "image_size")}
    for part, cls in (("network", network), ("training", TrainingConfig)):
        for field in dataclasses.fields(cls):
            places[f"{part}.{field.name}"] = places[field.name] = (parts[part], field.name)
    check_keys({key: text}, places, "--set")
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        value = text
    holder, name = places[key]
    holder[name] = value
