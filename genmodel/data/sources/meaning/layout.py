"""What a person says about a source's folders and files: which are classes, which are splits."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from genmodel.errors import ConfigError


@dataclass(frozen=True)
class Layout:
    """What a person says about a source; otherwise what is certain is recognised, and the rest is asked."""

    classes: str = ""  # none, folder, "depth N", or the path of a file of labels
    split: str = ""  # the split to read, if a source has several
    val_split: str = ""  # the split whose images are the block's val split
    allow_new_classes: bool = False  # whether an update may bring classes that the block does not have

    @property
    def way(self) -> str:
        """How classes are determined: auto, none, folder, depth or file."""
        if self.classes in ("none", "folder"):
            return self.classes
        if re.fullmatch(r"depth[ =]\d+", self.classes):
            return "depth"
        return "file" if self.classes else "auto"

    @property
    def depth(self) -> int:
        """The N of "depth N", from 1 on; ConfigError if it is 0."""
        number = int(self.classes.removeprefix("depth")[1:])
        if number < 1:
            raise ConfigError("--classes: depth counts an image's folders from 1")
        return number

    @property
    def file(self) -> Path:
        """The file of labels; ConfigError if it is not a file."""
        path = Path(self.classes)
        if not path.is_file():
            raise ConfigError(
                f"--classes: give none, folder, 'depth N', or a file of labels; {self.classes} is not a file"
            )
        return path

    def under(self, root: Path) -> "Layout":
        """The same with the path of its file of labels relative to `root`."""
        return replace(self, classes=str(root / self.classes)) if self.way == "file" else self

    def as_dict(self) -> dict[str, Any]:
        """The settings that were given, for JSON."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Layout":
        texts = {name: str(told[name]) for name in ("classes", "split", "val_split") if name in told}
        return cls(**texts, allow_new_classes=bool(told.get("allow_new_classes", False)))
