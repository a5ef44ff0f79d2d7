"""What a training is known by: equal configuration, data and code give an equal fingerprint."""

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


def identify(name: str, config: RunConfig, block: Block) -> Identity:
    return Identity(name=name, config=config, block=block.digest, code=code_digest())


def code_digest() -> str:
    root = Path(genmodel.__file__).parent
    places = [root / place for place in _CODE]
    files = sorted(file for place in places for file in (place.rglob("*.py") if place.is_dir() else [place]))
    return durable.digest_json({file.relative_to(root).as_posix(): durable.digest_file(file) for file in files})
