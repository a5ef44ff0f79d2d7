"""Settings (genmodel/settings/config.py), read from params.yaml and --set; a wrong key, type or range names the fix."""

import dataclasses
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genmodel.errors import ConfigError
from genmodel.settings.config import (
    DataConfig,
    EvaluationConfig,
    GateConfig,
    ImageSize,
    RunConfig,
    TrainingConfig,
    defaults,
)
from genmodel.settings.reading import build, check_keys, check_moved, mapping, near, read_value, shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MAX_NODES = 100_000  # values in a YAML file
_DEEPEST = 12  # names in the key of --set


@dataclass(frozen=True, kw_only=True)
class Params:
    """All of params.yaml."""

    models: dict[str, RunConfig]
    evaluation: EvaluationConfig
    gate: GateConfig
    data: DataConfig | None = None


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file; ConfigError if it is missing or not a mapping."""
    try:
        import yaml
    except ImportError as error:
        raise ConfigError(f"reading {path} needs PyYAML: pip install pyyaml, or use --set") from error
    try:
        text = path.read_text()
        if _expanded(yaml.compose(text, yaml.SafeLoader), {}) > _MAX_NODES:
            raise ConfigError(
                f"{path} expands to more than {_MAX_NODES:,} values through its aliases (*name): write them out"
            )
        content = yaml.safe_load(text)
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:  # ValueError: not UTF-8, an impossible date
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold keys and values")
    return content


def _expanded(node: Any, sizes: dict[int, float]) -> float:
    """How many values a YAML node expands to, counting each alias in full; infinite for a cycle."""
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
    check_keys(content, ["models", "evaluation", "gate", "data", "budget"], str(path))  # budget: flows/costs/budget.py
    return Params(
        models={name: run_config(content["models"][name], f"{path}: models.{name}") for name in model_names(path)},
        evaluation=read_evaluation(path),
        gate=read_gate(path),
        data=read_limits(path),
    )


def read_evaluation(path: Path) -> EvaluationConfig:
    """Read only the part `evaluation` of params.yaml."""
    return build(EvaluationConfig, read_yaml(path).get("evaluation") or {}, f"{path}: evaluation")


def read_gate(path: Path) -> GateConfig:
    """Read only the part `gate` of params.yaml."""
    return build(GateConfig, read_yaml(path).get("gate") or {}, f"{path}: gate")


def read_limits(path: Path) -> DataConfig | None:
    """Read only the part `data` of params.yaml; None without one: nothing is limited."""
    content = read_yaml(path)
    return build(DataConfig, content["data"] or {}, f"{path}: data") if "data" in content else None


def model_names(path: Path) -> list[str]:
    """The names of params.yaml's models, in its order; `read_params` checks their contents."""
    models = read_yaml(path).get("models")
    if not isinstance(models, dict) or not models:
        raise ConfigError(f"{path}: models must name at least one model")
    for name in models:
        check_name(name, f"{path}: models")
    return list(models)


def model_family(path: Path, name: str) -> str | None:
    """The family of a model in params.yaml, without torch; None if it names no known family."""
    from genmodel.models.families import FAMILIES

    model = (read_yaml(path).get("models") or {}).get(name)
    family = model.get("family") if isinstance(model, dict) else None
    return family if isinstance(family, str) and family in FAMILIES else None


def check_name(name: Any, where: str) -> None:
    """ConfigError for a model name that could act as more than a name in a path, a command or a report."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(
            f"{where}: {name!r} is not a valid model name: use up to 64 of the letters a-z and A-Z, digits, - _ and ., "
            "starting with a letter or digit"
        )


def check_names(path: Path) -> None:
    """ConfigError for an invalid model or family name in params.yaml; quick: the rest of the file is not checked."""
    models = read_yaml(path).get("models")
    for name, model in models.items() if isinstance(models, dict) else []:
        check_name(name, f"{path.name}: models")
        if isinstance(model, dict) and "family" in model:
            _check_family(model["family"], f"{path.name}: models.{name}")


def _check_family(family: Any, where: str) -> None:
    from genmodel.models.families import FAMILIES

    if not isinstance(family, str) or family not in FAMILIES:
        listed = ", ".join(FAMILIES)
        raise ConfigError(f"{where}: family {shown(family)} is not one of {listed}{near(family, list(FAMILIES))}")


def run_config(values: Any, where: str, overrides: Sequence[str] = ()) -> RunConfig:
    """The RunConfig of a mapping (family, image_size, network, training) and of `key=value` overrides."""
    from genmodel.models.families import load_family

    values = mapping(values, where)
    check_keys(values, ["family", "image_size", "network", "training"], where)
    family = values.get("family")
    _check_family(family, where)
    model = load_family(family)
    kinds = {"network": model.Config, "training": TrainingConfig}
    for override in overrides:
        values = _overridden(values, override, kinds)
    network, training = ({} if values.get(part) is None else values[part] for part in kinds)
    return RunConfig(
        family=family,
        image_size=read_value(ImageSize, values.get("image_size", 64), f"{where}.image_size"),
        network=build(model.Config, network, f"{where}.network"),
        training=build(TrainingConfig, training, f"{where}.training"),
        model=model,
    )


def recorded_config(values: Any, where: str) -> RunConfig:
    """The RunConfig that a training recorded; settings of its network that have moved since are left out, as they
    belong to the training, which is over."""
    from genmodel.models.families import load_family

    values = mapping(values, where)
    _check_family(values.get("family"), where)
    moved = getattr(load_family(values["family"]).Config, "moved", {})
    network = mapping(values.get("network") or {}, f"{where}.network")
    return run_config({**values, "network": {key: network[key] for key in network if key not in moved}}, where)


def _overridden(values: Mapping[str, Any], override: str, kinds: Mapping[str, type]) -> dict[str, Any]:
    """`values` with `batch_size=128`, `training.batch_size=128` or `network.gamma.start=0.05` applied."""
    name, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"--set {override}: write key=value")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # ValueError: not valid JSON, a number of more than 4,300 digits
        value = text
    changed: dict[str, Any] = _with(values, _path(name, kinds), value, {part: defaults(kinds[part]) for part in kinds})
    return changed


def _path(name: str, kinds: Mapping[str, type]) -> list[str]:
    """A setting's path: ["training", "batch_size"] for `training.batch_size`, and for just `batch_size`."""
    fields = {part: [field.name for field in dataclasses.fields(kind)] for part, kind in kinds.items()}
    first, *rest = name.split(".")
    if len(rest) >= _DEEPEST:
        raise ConfigError(f"--set {first}...: no setting is nested {len(rest)} levels deep")
    for kind in kinds.values():
        check_moved(dict.fromkeys(rest[:1] if first in kinds else [first]), kind, f"--set {name}")
    if first in kinds and (rest or first not in fields[first]):  # a family may have a setting `network`
        check_keys(dict.fromkeys(rest[:1]), fields[first], f"--set {first}")
        return [first, *rest]
    if first == "image_size":
        return [first, *rest]
    parts = [part for part, names in fields.items() if first in names]
    if len(parts) > 1:
        raise ConfigError(f"--set {name} is ambiguous: write {' or '.join(f'{part}.{name}' for part in parts)}")
    if not parts:
        check_keys({first: None}, ["image_size", *(each for part in kinds for each in (part, *fields[part]))], "--set")
    return [*parts, first, *rest]


def _with(old: Any, path: Sequence[str], value: Any, usual: Any) -> Any:
    """A copy of `old` with `value` at `path`. What `old` does not have comes from `usual`, the default."""
    if not path:
        return value
    key, *rest = path
    if isinstance(old, list | tuple) and key.isdecimal() and int(key) < len(old):
        return [_with(each, rest, value, None) if place == int(key) else each for place, each in enumerate(old)]
    old = old if isinstance(old, Mapping) else {}
    usual = usual.get(key) if isinstance(usual, Mapping) else None
    return {**old, key: _with(old.get(key, usual), rest, value, usual)}
