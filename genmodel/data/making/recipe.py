"""How an image becomes pixels: all the choices that decide a block's bytes, beside its sizes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """The choices; None where the source decides. A block keeps them with nothing left open."""

    resize: str = "adm-1"

    def as_dict(self) -> dict[str, Any]:
        """The choices that are not the defaults, for JSON."""
        default = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Recipe":
        return cls(**{name: told[name] for name in cls.__dataclass_fields__ if name in told})
