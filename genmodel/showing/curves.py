"""The record's losses, scores and gradient norms as one picture, drawn with Pillow alone."""

import itertools
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image, ImageDraw

GROUPS = {"loss": "losses", "score": "scores", "gradient": "gradient norms"}  # prefix of a metric -> a panel's title
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]  # Okabe and Ito: also for the colour-blind
BROKEN = "#b00020"  # where a value is no number any more
_INK, _GRID, _PAPER = "#1b1b1b", "#e2e2e2", "#fdfdfb"
_SMOOTH = 2  # drawn this much larger and then shrunk: Pillow's lines have no soft edges
_PANEL = 260  # pixels of a panel's height
_LEFT, _RIGHT, _TOP, _BOTTOM = 84, 44, 40, 30  # pixels around a panel's plot
_WILD = 100  # a value that is so many times the median makes the axis logarithmic

Points = list[tuple[int, float]]  # images seen, value


def draw_curves(rows: Sequence[Mapping[str, Any]], width: int = 900) -> Image.Image:
    """A chart of the rows of metrics.jsonl: a panel for each of loss/, score/ and gradient/ that they hold.

    Values that are not finite are left out and marked where they begin. A panel with a value far from all others
    has an axis that is linear around zero and logarithmic beyond, so that a loss that explodes hides no other.
    """
    panels = {group: curves for group in GROUPS if (curves := _curves(rows, group))}
    end = max((row["images_seen"] for row in rows), default=0)
    picture = Image.new("RGB", (width * _SMOOTH, max(1, len(panels)) * _PANEL * _SMOOTH + 22 * _SMOOTH), _PAPER)
    for place, (group, curves) in enumerate(panels.items()):
        _Panel(picture, place * _PANEL, end).draw(GROUPS[group], curves)
    small = picture.resize((width, picture.height // _SMOOTH), Image.Resampling.BOX)
    words = "images seen" if panels else "the record holds no losses yet"
    ImageDraw.Draw(small).text((width / 2, small.height - 8), words, fill=_INK, anchor="ms", font_size=14)
    return small


def _curves(rows: Sequence[Mapping[str, Any]], group: str) -> dict[str, Points]:
    """The metrics group/name of the rows by name."""
    curves: dict[str, Points] = {}
    for row in rows:
        for metric, value in row["metrics"].items():
            head, _, name = metric.partition("/")
            if head == group:
                curves.setdefault(name, []).append((row["images_seen"], value))
    return curves


class _Panel:
    """One chart on the enlarged picture; its coordinates are those of the picture that comes of it."""

    def __init__(self, picture: Image.Image, top: int, end: int) -> None:
        self.pen = ImageDraw.Draw(picture)
        self.left, self.right = _LEFT, picture.width / _SMOOTH - _RIGHT
        self.head, self.top, self.bottom = top + _TOP - 14, top + _TOP, top + _PANEL - _BOTTOM
        self.end = end or 1  # images seen at the right edge

    def draw(self, title: str, curves: Mapping[str, Points]) -> None:
        broken = [seen for points in curves.values() for seen, value in points if not math.isfinite(value)]
        if broken:
            self.box(self.x(min(broken)), self.top, self.right, self.bottom, "#f8e3e3")
        height, ticks = _axis([value for points in curves.values() for _, value in points if math.isfinite(value)])
        self.axes(height, ticks)
        pen = self.left + self.text(self.left, self.head, title, size=16) + 24
        for (name, points), colour in zip(curves.items(), COLOURS * (len(curves) // len(COLOURS) + 1), strict=False):
            self.curve(points, height, colour)
            self.box(pen, self.head - 10, pen + 10, self.head, colour)
            last = next((f" {value:,.4g}" for _, value in reversed(points) if math.isfinite(value)), "")
            pen += 16 + self.text(pen + 16, self.head, name + last) + 20
        if broken:
            self.mark(min(broken))

    def axes(self, height: Callable[[float], float], ticks: Sequence[float]) -> None:
        for tick in ticks:
            self.line([(self.left, self.y(height(tick))), (self.right, self.y(height(tick)))], _GRID, 1)
            self.text(self.left - 8, self.y(height(tick)), f"{tick + 0.0:,.10g}", anchor="rm")
        for seen in round_numbers(0, self.end, 6):
            self.line([(self.x(seen), self.bottom), (self.x(seen), self.bottom + 5)], _INK, 1)
            self.text(self.x(seen), self.bottom + 18, f"{seen:,.10g}", anchor="ms")
        corners = [(self.left, self.top), (self.left, self.bottom), (self.right, self.bottom)]
        self.line(corners, _INK, 1)

    def curve(self, points: Points, height: Callable[[float], float], colour: str) -> None:
        """A line through the finite points, cut where others lie between; a dot for one that stands alone."""
        for finite, group in itertools.groupby(points, key=lambda point: math.isfinite(point[1])):
            if finite:
                places = [(self.x(seen), self.y(height(value))) for seen, value in group]
                self.line(places, colour, 1.5)
                if len(places) == 1:
                    (x, y) = places[0]
                    self.box(x - 2.5, y - 2.5, x + 2.5, y + 2.5, colour)

    def mark(self, seen: int) -> None:
        """Where the first value that is not finite was recorded."""
        x = self.x(seen)
        self.line([(x, self.top), (x, self.bottom)], BROKEN, 1.5)
        side, anchor = (x + 6, "ls") if x < (self.left + self.right) / 2 else (x - 6, "rs")
        self.text(side, self.top + 16, f"not finite from {seen:,}", anchor=anchor, colour=BROKEN)

    def x(self, seen: float) -> float:
        return self.left + seen / self.end * (self.right - self.left)

    def y(self, share: float) -> float:
        return self.bottom - share * (self.bottom - self.top)

    def line(self, places: Sequence[tuple[float, float]], colour: str, width: float) -> None:
        enlarged = [(x * _SMOOTH, y * _SMOOTH) for x, y in places]
        self.pen.line(enlarged, fill=colour, width=round(width * _SMOOTH), joint="curve")

    def box(self, left: float, top: float, right: float, bottom: float, colour: str) -> None:
        self.pen.rectangle([side * _SMOOTH for side in (left, top, right, bottom)], fill=colour)

    def text(self, x: float, y: float, words: str, size: int = 13, anchor: str = "ls", colour: str = _INK) -> float:
        """Writes; returns the width of the words."""
        size *= _SMOOTH
        self.pen.text((x * _SMOOTH, y * _SMOOTH), words, fill=colour, anchor=anchor, font_size=size)
        return self.pen.textlength(words, font_size=size) / _SMOOTH


def _axis(values: Sequence[float]) -> tuple[Callable[[float], float], list[float]]:
    """For finite values: the map from a value to its height, 0 at the bottom and 1 at the top, and round ticks."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    usual = statistics.median(abs(value) for value in values) if values else 0.0
    wild = 0 < usual * _WILD < max(-low, high)
    unit = 10.0 ** math.floor(math.log10(usual)) if wild else 1.0

    def bend(value: float) -> float:
        return math.asinh(value / unit) if wild else value

    edge = 0.05 * (bend(high) - bend(low)) or abs(bend(high)) / 10 or 1.0  # a flat curve in the middle
    bottom, top = bend(low) - edge, bend(high) + edge
    if wild:
        decades = range(1, math.ceil(math.log10(max(-low, high) / unit)) + 1)  # those below stand too close
        powers = [unit * 10.0**k for k in decades[:: 1 + len(decades) // 5]]
        ticks = [tick for tick in (*(-power for power in powers), 0.0, *powers) if bottom <= bend(tick) <= top]
    else:
        ticks = round_numbers(bottom, top, 5)
    return lambda value: (bend(value) - bottom) / (top - bottom), ticks


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 multiples of 1, 2 or 5 times a power of ten in [low, high], in order."""
    rough = (high - low) / most or 1.0
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for factor in (1, 2, 5, 10) if (step := factor * power) >= rough * (1 - 1e-9))
    return [number * step for number in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
