"""A training's identity: equal settings, data and code give an equal fingerprint.

It covers what decides a model's weights. It leaves out the model's name, settings that only affect output (how often a
row or a checkpoint is written), and those at their default. The defaults that code reads are part of the code's digest
(genmodel/code.py): a new setting with a default does not change a training's identity, a changed default does.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from genmodel.errors import CheckpointError, SettingsChangedError
from genmodel.files import durable
from genmodel.settings.config import RunConfig, beside_defaults, chosen, plain, same

SHOWING = ("log_every", "checkpoint_every")  # of the settings in `training`: a resume may change them
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
        whole = self.config.as_dict()
        for part in _PARTS:
            whole[part] = _deciding(chosen(getattr(self.config, part)))
        return whole

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
    """Whether a training, given by its `as_dict`, has these settings, data and code.

    `model` holds settings as in params.yaml, without defaults; they are compared with the training's own, so that no
    family needs to be loaded for its defaults. False also means that it is not known.
    """
    if "chosen" not in known or (known["block"], known["code"]) != (block, code):
        return False
    config, chosen = known["config"], known["chosen"]
    rest = {key: value for key, value in model.items() if key not in _PARTS}
    parts = {part: model.get(part) or {} for part in _PARTS}
    return same(rest, {key: value for key, value in config.items() if key not in _PARTS}) and all(
        isinstance(values, Mapping)
        and values.keys() <= config[part].keys()
        and _gives(_deciding(values), _deciding(config[part]), chosen[part])
        for part, values in parts.items()
    )


def _deciding(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a part except those that only affect output."""
    return {key: value for key, value in settings.items() if key not in SHOWING}


def _gives(written: Any, whole: Any, chosen: Any) -> bool:
    """Whether `written`, without defaults, is known to give `whole`, of which `chosen` is not at its default.

    What was at its default must be left out or written in full: only its type knows what a part of it means.
    """
    if not all(isinstance(each, Mapping) for each in (written, whole, chosen)):
        return same(written, whole)
    return chosen.keys() <= written.keys() <= whole.keys() and all(
        _gives(value, whole[key], chosen[key]) if key in chosen else same(value, whole[key])
        for key, value in written.items()
    )


def claim(folder: Path, identity: Identity, write: bool = True) -> None:
    """Make a run's folder, named by part of the fingerprint, belong to `identity`, which is stored in it in full.

    SettingsChangedError if it belongs to another training, CheckpointError if that cannot be read.
    """
    path, mine = folder / "identity.json", identity.as_dict()
    try:
        theirs = json.loads(path.read_bytes()) if path.exists() else mine
        is_other = theirs["fingerprint"] != mine["fingerprint"]
        changes = "; ".join(differences(theirs, identity))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged: remove it and run the same command again") from error
    if is_other:
        raise SettingsChangedError(
            f"{folder} belongs to another training ({changes or 'fingerprint'}): move it away and run again"
        )
    if write:
        durable.write_json(path, mine)


def differences(old: Mapping[str, Any], new: Identity) -> list[str]:
    """How another training, given by its `as_dict`, differs from `new`: "training.batch_size: 64 -> 32".

    Digests are shortened. Ignored: settings that only affect output, settings added since `old` that are at their
    default, and removed settings.
    """
    before, after = old["config"], new.config.as_dict()
    found = {key: (before.get(key), value) for key, value in after.items() if key not in _PARTS}
    found |= {"block": (old["block"][:8], new.block[:8]), "code": (old["code"][:8], new.code[:8])}
    for part in _PARTS:
        found |= _compared(part, before[part], getattr(new.config, part))
    shown = {f"{part}.{key}" for part in _PARTS for key in SHOWING}
    changed = sorted(name for name, pair in found.items() if name not in shown and not same(*pair))
    return [f"{name}: {found[name][0]} -> {found[name][1]}" for name in changed]


def _compared(name: str, before: Mapping[str, Any], settings: Any, usual: Any = None) -> dict[str, tuple[Any, Any]]:
    """What each setting was before, or its default if it is new, and what it is now, by dotted name."""
    found: dict[str, tuple[Any, Any]] = {}
    for key, value, normal in beside_defaults(settings, usual):
        was = before.get(key, None if normal is MISSING else plain(normal))
        if is_dataclass(value) and isinstance(was, Mapping):
            found |= _compared(f"{name}.{key}", was, value, normal)
        else:
            found[f"{name}.{key}"] = (was, plain(value))
    return found
