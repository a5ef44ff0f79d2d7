"""What a training is known by: equal configuration, data and code give an equal fingerprint."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import genmodel
from genmodel import durable
from genmodel.config import RunConfig
from genmodel.data.block import Block

# the code that decides a trained model's bytes
_CODE = ("models", "training", *(f"data/{name}.py" for name in ("block", "loader", "order", "store")))
_CODE += ("config.py", "pixels.py", "tensors.py")


@dataclass(frozen=True, kw_only=True)
class Identity:
    name: str  # the model's name in params.yaml
    config: RunConfig
    block: str  # sha256 of the block's description, which holds the digests of all its files
    code: str  # sha256 over the source files above

    @property
    def fingerprint(self) -> str:
        """sha256, 64 hexadecimal characters."""
        return durable.digest_json({"config": self.config.as_dict(), "block": self.block, "code": self.code})

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "block": self.block,
            "code": self.code,
            "config": self.config.as_dict(),
        }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What makes two identities, as `as_dict` gives them, unlike: "training.batch_size: 64 -> 32"; digests are cut."""
    before, after = _settings(old), _settings(new)
    names = sorted(before.keys() | after.keys())
    return [f"{name}: {before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)]


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted name, and the first digits of what data and code are known by."""
    config = dict(facts["config"])
    flat = {f"{part}.{key}": value for part in ("network", "training") for key, value in config.pop(part).items()}
    return config | flat | {key: facts[key][:8] for key in ("block", "code")}


def identify(name: str, config: RunConfig, block: Block) -> Identity:
    return Identity(name=name, config=config, block=block.digest, code=code_digest())


def code_digest() -> str:
    root = Path(genmodel.__file__).parent
    places = [root / place for place in _CODE]
    files = sorted(file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place]))
    return durable.digest_json({file.relative_to(root).as_posix(): durable.digest_file(file) for file in files})
