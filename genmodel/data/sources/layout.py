"""What the folders and files of a source mean: which of them are classes, which are splits."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Layout:
    """What a person says of a source; where nothing is said, what is certain is recognised and the rest is asked."""

    classes: str = ""  # none, folder, "depth N", or the path of a file of labels
    split: str = ""  # the split that is read, of a source that has several
    val_split: str = ""  # the split whose images are the block's val split

    def as_dict(self) -> dict[str, str]:
        """What is said, for JSON."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Layout":
        return cls(**{name: str(told[name]) for name in cls.__dataclass_fields__ if name in told})
