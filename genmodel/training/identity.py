"""What a training is known by: equal settings, data and code give an equal fingerprint.

It holds what decides a model's weights. Outside are the model's name, settings that only show (how often a row or a
checkpoint is written), and those that are at their default. The defaults that code reads are a part of what the code is
known by (genmodel/code.py): a new setting with a default makes no training another one, another default does.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genmodel import durable
from genmodel.settings import RunConfig, defaults

SHOWING = ("log_every", "checkpoint_every")  # of the settings in `training`: a checkpoint goes on under others
_PARTS = ("network", "training")  # of a RunConfig


@dataclass(frozen=True, kw_only=True)
class Identity:
    name: str  # the model's name in params.yaml
    config: RunConfig
    block: str  # sha256 of the block's description, which holds the digests of all its files
    code: str  # sha256 of the code that trains it, without comments

    @property
    def fingerprint(self) -> str:
        """sha256, 64 hexadecimal characters."""
        return durable.digest_json({"config": self.chosen(), "block": self.block, "code": self.code})

    def chosen(self) -> dict[str, Any]:
        """The settings that decide the weights and are not at their default."""
        whole, usual = self.config.as_dict(), self.defaults()
        for part in _PARTS:
            chosen = {key: value for key, value in whole[part].items() if value != usual[part].get(key)}
            whole[part] = {key: value for key, value in chosen.items() if key not in SHOWING}
        return whole

    def defaults(self) -> dict[str, dict[str, Any]]:
        """The defaults of the settings of `network` and `training`, as far as they have some."""
        return {part: defaults(getattr(self.config, part)) for part in _PARTS}

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "block": self.block,
            "code": self.code,
            "config": self.config.as_dict(),
            "chosen": self.chosen(),
        }


def is_as_written(known: Mapping[str, Any], model: Mapping[str, Any], block: str, code: str) -> bool:
    """Whether a training, known by its `as_dict`, is that of these settings, data and code.

    `model` holds settings as params.yaml has them, defaults left out; they are compared with the training's own, so
    that no family needs to be loaded to learn its defaults. False also means that this cannot be told.
    """
    config, chosen = known["config"], known.get("chosen")
    if chosen is None or (known["block"], known["code"]) != (block, code):
        return False
    parts = {part: model.get(part) or {} for part in _PARTS}
    if any(not isinstance(values, Mapping) or chosen[part].keys() - values for part, values in parts.items()):
        return False
    rest = {key: value for key, value in model.items() if key not in _PARTS}
    return _equal(rest, {key: value for key, value in config.items() if key not in _PARTS}) and all(
        values.keys() <= config[part].keys() and _equal(values, {key: config[part][key] for key in values})
        for part, values in parts.items()
    )


def _equal(written: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether settings are the same, by value and type; those that only show may differ."""
    return written.keys() == known.keys() and all(
        key in SHOWING or (value == known[key] and isinstance(value, bool) == isinstance(known[key], bool))
        for key, value in written.items()
    )


def differences(old: Mapping[str, Any], new: Identity) -> list[str]:
    """What makes another training, known by its `as_dict`, unlike `new`: "training.batch_size: 64 -> 32".

    Digests are cut. Settings that only show make no difference, nor those that were new after `old` and are at their
    default, nor those that are gone.
    """
    before, after = _settings(old), _settings(new.as_dict())
    usual = {f"{part}.{key}": value for part, values in new.defaults().items() for key, value in values.items()}
    changed = [name for name in sorted(after) if before.get(name, usual.get(name)) != after[name]]
    return [f"{name}: {before.get(name, usual.get(name))} -> {after[name]}" for name in changed]


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted name, and the first digits of what data and code are known by."""
    config = dict(facts["config"])
    parts = {part: config.pop(part) for part in _PARTS}
    flat = {f"{part}.{key}": value for part in _PARTS for key, value in parts[part].items() if key not in SHOWING}
    return config | flat | {key: facts[key][:8] for key in ("block", "code")}
