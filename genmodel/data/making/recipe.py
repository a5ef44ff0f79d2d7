"""How an image becomes pixels: all the choices that decide a block's bytes, besides its sizes."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from genmodel.errors import ConfigError

ADM, FAST = "adm-1", "fast-1"
DECLARED = "declared"
CHECKER = "checker"
DROPPED = "dropped"  # alpha is ignored, and the colours that it hides are shown: blocks of format 2
MAX_PIXELS = 89_478_485  # Pillow's own limit
_COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0)}
_WORDNET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Recipe:
    """The choices; None where the source decides; in a block none is left open. ConfigError for invalid values."""

    resize: str = ADM  # or fast-1, which decodes JPEGs at a reduced scale
    orient: bool | None = None  # rotate as EXIF says; None: unless the images are ImageNet's
    background: str = "white"  # behind transparency: white, black, #rrggbb or checker
    channels: int | None = None  # 1, 3, or 4 with alpha; None: 1 where all images are grey, else 3
    luma: bool = False  # with one channel: convert colours to grey; otherwise there are none
    bits: int | str = DECLARED  # that count in 16-bit files
    max_pixels: int = MAX_PIXELS  # of an image
    duplicates: str = "keep"  # or drop

    def __post_init__(self) -> None:
        told = {
            "--recipe": (self.resize, self.resize in (ADM, FAST), f"{ADM} or {FAST}"),
            "--orient": (self.orient, self.orient in (None, True, False), "true or false"),
            "--background": (self.background, self._is_background(), "white, black, checker or #rrggbb"),
            "--channels": (self.channels, self.channels in (None, 1, 3, 4), "1, 3 or 4"),
            "--bits": (self.bits, self.bits in (DECLARED, *range(9, 17)), "9 to 16, or leave it out"),
            "--max-pixels": (self.max_pixels, type(self.max_pixels) is int and self.max_pixels > 0, "at least 1"),
            "--duplicates": (self.duplicates, self.duplicates in ("keep", "drop"), "keep or drop"),
        }
        for option, (value, is_good, choices) in told.items():
            if not is_good:
                raise ConfigError(f"{option}: must be {choices}, not {value!r}")
        if self.channels == 4 and self.background == CHECKER:
            raise ConfigError("--background checker is for images without an alpha channel: leave out --channels 4")

    def _is_background(self) -> bool:
        return self.background in (*_COLOURS, CHECKER, DROPPED) or bool(
            re.fullmatch("#[0-9a-fA-F]{6}", str(self.background))
        )

    @property
    def colour(self) -> tuple[int, int, int]:
        """The background's red, green and blue."""
        red, green, blue = _COLOURS.get(self.background) or bytes.fromhex(self.background.removeprefix("#"))
        return red, green, blue

    def for_classes(self, classes: Iterable[str]) -> "Recipe":
        """The recipe with nothing left open but channels.

        Images are rotated as EXIF says, because a phone's photos would lie on their side otherwise; but not ImageNet's,
        whose classes are WordNet IDs: published figures use those as stored.
        """
        orient = not all(map(_WORDNET.fullmatch, classes)) if self.orient is None else self.orient
        return replace(self, orient=orient, luma=self.channels == 1)

    def as_dict(self) -> dict[str, Any]:
        """The choices that are not the defaults, for JSON."""
        default = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != default[name]}

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> "Recipe":
        return cls(**{name: told[name] for name in cls.__dataclass_fields__ if name in told})

    @classmethod
    def of_block(cls, facts: Mapping[str, Any]) -> "Recipe":
        """The recipe in a block.json; format 2 had only one."""
        first = {"orient": False, "background": DROPPED, "channels": 3, "bits": 16, "resize": facts.get("resize", ADM)}
        return cls.from_dict(facts.get("recipe", first))
