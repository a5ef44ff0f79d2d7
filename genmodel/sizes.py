"""Sizes of images in pixels, as people write them: 64 is a square, 128x64 is 128 wide and 64 high."""

import re
from typing import NamedTuple

SMALLEST, LARGEST = 8, 4096
CHANNELS = {1: "grey", 3: "RGB", 4: "RGBA"}


class Size(NamedTuple):
    """Height and width, the order of arrays. As text and in JSON the width comes first, as people write it."""

    height: int
    width: int

    @classmethod
    def of(cls, value: "int | str | Size") -> "Size":
        """The size written as 64, "64" or "128x64" (width x height); ValueError for anything else."""
        if isinstance(value, Size):
            return value
        match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", str(value)) if not isinstance(value, bool) else None
        if match is None:
            raise ValueError(f"a size is written as 64 or 128x64 (width x height), not {value!r}")
        width, height = int(match[1]), int(match[2] or match[1])
        if not all(SMALLEST <= side <= LARGEST for side in (width, height)):
            raise ValueError(f"a side must have {SMALLEST} to {LARGEST} px, not {value}")
        return cls(height, width)

    @property
    def is_square(self) -> bool:
        return self.height == self.width

    def plain(self) -> int | str:
        """As settings and block.json store it: 64, or "128x64"."""
        return self.width if self.is_square else str(self)

    def __str__(self) -> str:
        return str(self.width) if self.is_square else f"{self.width}x{self.height}"


def shape_text(size: Size, channels: int) -> str:
    """Size and channels in words: 64 px, 128x64 px, 28 px grey; RGB is not mentioned."""
    return f"{size} px" if channels == 3 else f"{size} px {CHANNELS[channels]}"
