"""A training replayed: its sample grids as an animation, each shown for as long as it lasted on a clock.

In linear time a second stands for a fixed number of images; in logarithmic time for a fixed factor, so that the first
images, when a VAE changes most, are not over at once. OpenAI's 2016 post on generative models shows its GANs in linear
and its VAE in logarithmic time.
"""

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Literal

from PIL import Image, ImageChops, ImageDraw

from genmodel.files import durable

Clock = Literal["log", "linear"]

TICKS = 64  # of the clock from the start to the end
HELD = 14  # ticks that the last grid stays
TICK_MS = 140  # whole hundredths of a second, as GIF counts
HEAD = 70  # pixels above the grid, for the text and the clock's line
_WIDEST = 640  # pixels of a grid; larger ones are shrunk
_NARROWEST = 360  # pixels of the page: the text needs them
_EDGE = 12  # pixels left and right of the line
_LINE = 42  # pixels from the top down to the line
_INK, _FAINT = "#1b1b1b", "#c8c8c8"


def write_replay(grids: Mapping[int, Path], clock: Clock, out: Path) -> None:
    """Write an animated GIF of 11 s from `grids`, pictures by images seen; equal grids give equal bytes.

    GIF and not WebP, because `dvc plots` shows no WebP.
    """
    first, *rest = map(_reduced, frames(grids, clock))
    lasting = [ticks * TICK_MS for ticks in schedule(grids, clock).values()]
    animated = {"save_all": True, "append_images": rest, "duration": lasting, "loop": 0}
    durable.write_with(out, lambda handle: first.save(handle, format="GIF", **animated))


def _reduced(page: Image.Image) -> Image.Image:
    """The page in 256 colours, without dither: white, and colours chosen at a third of the size, for speed (5x)."""
    sample = page.resize((page.width // 3, page.height // 3), Image.Resampling.NEAREST)
    colours = Image.new("P", (1, 1))
    colours.putpalette([255, 255, 255, *(sample.quantize(255).getpalette() or [])])
    reduced = page.quantize(palette=colours, dither=Image.Dither.NONE)
    white = functools.reduce(ImageChops.darker, page.split()).point(lambda level: 255 * (level == 255))
    reduced.paste(0, mask=white)  # Pillow's nearest colour is approximate: the background would flicker
    return reduced


def schedule(moments: Collection[int], clock: Clock) -> dict[int, int]:
    """The images seen of the grids to show, in order -> how many ticks of the clock each stays.

    A grid stays until the next one; if several round to the same tick, only the nearest to it is shown, so that the
    first and the last grid are always shown.
    """
    place = scale(moments, clock)
    begins: dict[int, int] = {}
    for seen in sorted(moments, key=lambda seen: -abs(place(seen) * TICKS - round(place(seen) * TICKS))):
        begins[round(place(seen) * TICKS)] = seen  # the nearest comes last and wins
    ticks = sorted(begins)
    ends = [*ticks[1:], ticks[-1] + HELD]
    return {begins[tick]: end - tick for tick, end in zip(ticks, ends, strict=True)}


def scale(moments: Collection[int], clock: Clock) -> Callable[[int], float]:
    """The place of images seen on the clock: 0 at the first of the moments, 1 at the last.

    Zero has no logarithm: the time from there to the next moment counts as one doubling.
    """
    lowest = min((seen for seen in moments if seen > 0), default=1)

    def hand(seen: int) -> float:
        return seen if clock == "linear" else 1 + math.log2(seen / lowest) if seen else 0

    start = hand(min(moments))
    span = hand(max(moments)) - start or 1
    return lambda seen: (hand(seen) - start) / span


def frames(grids: Mapping[int, Path], clock: Clock) -> Iterator[Image.Image]:
    """The pages of the replay, one for each grid that `schedule` shows: RGB, of one size."""
    head = None
    for seen in schedule(grids, clock):
        with Image.open(grids[seen]) as picture:
            grid = picture.convert("RGB")
        grid.thumbnail((_WIDEST, _WIDEST))
        if head is None:
            width = max(grid.width, _NARROWEST)
            size = width, HEAD + grid.height
            head = _head(size[0], grids, clock)
        page = Image.new("RGB", size, "white")
        page.paste(head)
        _tell(page, seen, grids, clock)
        page.paste(grid, ((page.width - grid.width) // 2, HEAD))
        yield page


def _head(width: int, moments: Collection[int], clock: Clock) -> Image.Image:
    """The fixed part above the grids: the clock's name and its line, with round numbers below."""
    head = Image.new("RGB", (width, HEAD), "white")
    pen = ImageDraw.Draw(head)
    kind = "logarithmic" if clock == "log" else "linear"
    pen.text((width - _EDGE, 28), f"{kind} time", fill=_INK, anchor="rs", font_size=14)
    pen.line((_EDGE, _LINE, width - _EDGE, _LINE), fill=_FAINT, width=3)
    place, last = scale(moments, clock), max(moments)
    powers = [10**k for k in range(len(str(last)))]
    marks = round_numbers(0, last, 4) if clock == "linear" else [0, *powers]
    for mark in (int(mark) for mark in marks):
        if 0 <= place(mark) <= 1:
            x = _EDGE + place(mark) * (width - 2 * _EDGE)
            pen.line((x, _LINE - 3, x, _LINE + 5), fill=_FAINT)
            half = pen.textlength(f"{mark:,}", font_size=12) / 2
            x = min(max(x, half + 2), width - half - 2)
            pen.text((x, _LINE + 19), f"{mark:,}", fill=_INK, anchor="ms", font_size=12)
    return head


def _tell(page: Image.Image, seen: int, moments: Collection[int], clock: Clock) -> None:
    """Write the time of a grid onto its page, and draw the clock's line up to it."""
    pen = ImageDraw.Draw(page)
    pen.text((_EDGE, 28), f"{seen:,} images seen", fill=_INK, anchor="ls", font_size=22)
    x = _EDGE + scale(moments, clock)(seen) * (page.width - 2 * _EDGE)
    pen.line((_EDGE, _LINE, x, _LINE), fill=_INK, width=3)
    pen.ellipse((x - 5, _LINE - 5, x + 5, _LINE + 5), fill=_INK)


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten in [low, high], in order."""
    rough = (high - low) / most or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for factor in (1, 2, 5, 10) if (step := factor * power) >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
