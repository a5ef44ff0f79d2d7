"""A figure over time as an SVG in the page's colours: steps with intervals, and a mark for each decision."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from html import escape
from typing import NamedTuple

_WIDTH, _HEIGHT = 720, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 36, 44  # pixels around the plot
_LABEL = 44  # pixels that the name of a version, or a date, needs beside another
_STEPS = (1, 2, 2.5, 5, 10)


Across = Callable[[datetime], float]  # a time -> its place, pixels


class Point(NamedTuple):
    """The champion's figure at a time, with the ends of its interval."""

    time: datetime
    version: str
    value: float
    low: float
    high: float


class Mark(NamedTuple):
    """A decision: about which version, at which figure (None: not known), and whether the champion changed."""

    time: datetime
    what: str
    version: str
    value: float | None
    moves: bool


def draw(points: Sequence[Point], marks: Sequence[Mark], figure: str) -> str:
    """An SVG of 720 x 340, time across and `figure` up; there is at least one point. Days are UTC."""
    first, last = min(point.time for point in points), max(point.time for point in points)
    marks = [mark for mark in marks if first - timedelta(days=1) < mark.time]
    last = max([last, *(mark.time for mark in marks)])
    if last - first < timedelta(days=1):  # else an hour would fill the picture
        first, last = first - timedelta(hours=12), last + timedelta(hours=12)
    values = [value for point in points for value in (point.low, point.high)]
    values += [mark.value for mark in marks if mark.value is not None]
    axis = _Axis(min(values), max(values))

    def across(time: datetime) -> float:
        return _LEFT + 10 + (max(time, first) - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT - 20)

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(figure)} of the champion by day">']
    for value in axis.ticks():
        y = axis.place(value)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts += [_text("tick", x, _HEIGHT - 18, words) for x, words in _dates(first, last, across)]
    parts += _changes(marks, across)
    steps = [(across(point.time), axis.place(point.value)) for point in points]
    line = f"M{steps[0][0]:.1f} {steps[0][1]:.1f}"
    line += "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:]) + f"H{across(last):.1f}"
    parts.append(f'<path class="champion" d="{line}"/>')
    for mark in marks:
        if mark.value is not None and not mark.moves:
            x, y = across(mark.time), axis.place(mark.value)
            told = escape(f"{mark.time:%Y-%m-%d %H:%M}: {mark.what}, version {mark.version}, {figure} {mark.value:g}")
            place = f'cx="{x:.1f}" cy="{y:.1f}" r="4"'
            parts.append(f'<circle class="other {escape(mark.what)}" {place}><title>{told}</title></circle>')
    for point, (x, y) in zip(points, steps, strict=True):
        told = (
            f"{point.time:%Y-%m-%d}: version {point.version}, {figure} {point.value:g} [{point.low:g}, {point.high:g}]"
        )
        span = f'y1="{axis.place(point.low):.1f}" y2="{axis.place(point.high):.1f}"'
        parts.append(f'<g class="day"><title>{escape(told)}</title><line x1="{x:.1f}" x2="{x:.1f}" {span}/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5"/></g>')
    return "\n".join([*parts, "</svg>"])


def _changes(marks: Sequence[Mark], across: Across) -> list[str]:
    """A line for each change of the champion, with the version where there is room."""
    parts, end = [], 0.0
    for mark in (mark for mark in marks if mark.moves):
        x = across(mark.time)
        told = escape(f"{mark.time:%Y-%m-%d %H:%M}: {mark.what}, version {mark.version}")
        parts.append(
            f'<g class="change"><title>{told}</title><line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP - 8}" '
            f'y2="{_HEIGHT - _BOTTOM}"/></g>'
        )
        if x - end >= _LABEL:
            parts.append(_text("name", x, _TOP - 14, "none" if mark.what == "retirement" else f"v{mark.version}"))
            end = x
    return parts


def _dates(first: datetime, last: datetime, across: Across) -> list[tuple[float, str]]:
    """Days to name below the axis: round ones, not too near to each other."""
    begin = first.replace(hour=0, minute=0, second=0, microsecond=0)
    begin += timedelta(days=begin < first)  # the day before began left of the plot
    count = (last - begin).days
    step = max(1, -(-count // 6))
    named = [begin + timedelta(days=n) for n in range(0, count + 1, step)]
    form = "%b %d" if first.year == last.year else "%Y-%m-%d"
    shown: list[tuple[float, str]] = []
    for day in named:
        x = across(day)
        if not shown or x - shown[-1][0] > 1.5 * _LABEL:
            shown.append((max(x, _LEFT + 20), f"{day:{form}}"))
    return shown


def _text(kind: str, x: float, y: float, words: str) -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y}" text-anchor="middle">{escape(words)}</text>'


class _Axis:
    """A linear scale from values to pixels, with room above and below."""

    def __init__(self, low: float, high: float) -> None:
        room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
        self.low, self.high = low - room, high + room

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    def ticks(self) -> list[float]:
        """Four to nine round values."""
        rough = (self.high - self.low) / 5
        size = 10.0 ** len(f"{int(rough)}") / 10 if rough >= 1 else 1.0
        while size > rough:
            size /= 10
        step = next(factor * size for factor in _STEPS if factor * size >= rough)
        start = int(self.low // step) + 1
        return [round(n * step, 10) for n in range(start, int(self.high // step) + 1)]
