"""Settings (genmodel/settings.py), read from params.yaml and --set; a wrong key, type or range names the fix.

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
from genmodel.settings import EvaluationConfig, GateConfig, ImageSize, Range, RunConfig, TrainingConfig

T = TypeVar("T")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

_MAX_NODES = 100_000  # values in a YAML file


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


def model_family(path: Path, name: str) -> str | None:
    """The family of a model of params.yaml, without torch; None where it says none that there is."""
    from genmodel.models.families import FAMILIES

    model = (read_yaml(path).get("models") or {}).get(name)
    family = model.get("family") if isinstance(model, dict) else None
    return family if isinstance(family, str) and family in FAMILIES else None


def check_name(name: Any, where: str) -> None:
    """ConfigError for a model's name that could mean more than a name in a path, a command or a report."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} is not a model's name: use up to 64 of the letters a-z and A-Z, digits, - _ and ., "
            "beginning with a letter or digit"
        )


def check_names(path: Path) -> None:
    """ConfigError for a name of a model or family in params.yaml that is none; quick, without the rest of the file."""
    models = read_yaml(path).get("models")
    for name, model in models.items() if isinstance(models, dict) else []:
        check_name(name, f"{path.name}: models")
        if isinstance(model, dict) and "family" in model:
            _check_family(model["family"], f"{path.name}: models.{name}")


def _check_family(family: Any, where: str) -> None:
    from genmodel.models.families import FAMILIES

    if not isinstance(family, str) or family not in FAMILIES:
        near = difflib.get_close_matches(str(family), FAMILIES, n=1, cutoff=0)
        raise ConfigError(f"{where}: family {family!r} is none of {', '.join(FAMILIES)}; did you mean {near[0]!r}?")


def run_config(values: Any, where: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The RunConfig of a mapping (family, image_size, network, training) and of `key=value` overrides."""
    from genmodel.models.families import load_family

    values = _mapping(values, where)
    check_keys(values, ["family", "image_size", "network", "training"], where)
    family = values.get("family")
    _check_family(family, where)
    model = load_family(family)
    parts: dict[str, Any] = {
        "family": family,
        "image_size": values.get("image_size", 64),
        "network": _mapping(values.get("network") or {}, f"{where}.network"),
        "training": _mapping(values.get("training") or {}, f"{where}.training"),
    }
    for override in overrides:
        _override(parts, override, model.Config)
    return RunConfig(
        family=family,
        image_size=_value(ImageSize, parts["image_size"], f"{where}.image_size"),
        network=build(model.Config, parts["network"], f"{where}.network"),
        training=build(TrainingConfig, parts["training"], f"{where}.training"),
        model=model,
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
