"""What a training is known by: equal configuration, data and code give an equal fingerprint.

It holds what decides a model's weights. Settings that only show (how often a row or a checkpoint is written) and the
model's name are outside, and so are comments and doc strings of the code (genmodel/code.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genmodel import code, durable
from genmodel.config import RunConfig
from genmodel.data.block import Block

# the code that decides a trained model's bytes
_CODE = ("models", "training", *(f"data/{name}.py" for name in ("block", "loader", "order", "store")))
_CODE += ("adam.py", "config.py", "pixels.py", "tensors.py")
SHOWING = ("log_every", "checkpoint_every")  # of the settings in `training`: a checkpoint goes on under others


@dataclass(frozen=True, kw_only=True)
class Identity:
    name: str  # the model's name in params.yaml
    config: RunConfig
    block: str  # sha256 of the block's description, which holds the digests of all its files
    code: str  # sha256 over the code above, without its comments

    @property
    def fingerprint(self) -> str:
        """sha256, 64 hexadecimal characters."""
        config = self.config.as_dict()
        deciding = {name: value for name, value in config["training"].items() if name not in SHOWING}
        return durable.digest_json({"config": config | {"training": deciding}, "block": self.block, "code": self.code})

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "block": self.block,
            "code": self.code,
            "config": self.config.as_dict(),
        }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What makes two identities, as `as_dict` gives them, unlike: "training.batch_size: 64 -> 32"; digests are cut.

    Settings that only show make no difference.
    """
    before, after = _settings(old), _settings(new)
    names = sorted(before.keys() | after.keys())
    return [f"{name}: {before.get(name)} -> {after.get(name)}" for name in names if before.get(name) != after.get(name)]


def _settings(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by dotted name, and the first digits of what data and code are known by."""
    config = dict(facts["config"])
    flat = {f"{part}.{key}": value for part in ("network", "training") for key, value in config.pop(part).items()}
    flat = {name: value for name, value in flat.items() if name.removeprefix("training.") not in SHOWING}
    return config | flat | {key: facts[key][:8] for key in ("block", "code")}


def identify(name: str, config: RunConfig, block: Block) -> Identity:
    return Identity(name=name, config=config, block=block.digest, code=code.digest(_CODE))
