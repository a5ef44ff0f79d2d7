"""The losses of a training as an SVG in the page's colours."""

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from genmodel.evaluation.telling.chart import COLOURS, number

_WIDTH, _HEIGHT = 400, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 54, 12, 30, 44  # pixels around the plot
_LETTER, _LINE = 8.2, 18  # pixels, a letter's approximate width and a line's height
_POINTS = 150  # of a curve, at most
_CUT = 0.02  # share of the values at either end that may lie beyond the frame, so that one spike does not flatten all

Curves = Mapping[str, Sequence[tuple[float, float]]]  # images seen and value, by the loss's name


def losses(history: Path) -> Curves:
    """The columns loss/... of a model's history.csv that hold numbers."""
    if not history.exists():
        return {}
    with history.open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name.startswith("loss/")]
    found = {
        name.removeprefix("loss/"): [(float(row["images_seen"]), float(row[name])) for row in rows if row[name]]
        for name in names
    }
    return {name: finite for name, points in found.items() if (finite := [p for p in points if math.isfinite(p[1])])}


def draw(curves: Curves, label: str) -> str:
    """An SVG 400 wide: value against images seen, a colour and a name for each curve; empty without any."""
    if not curves:
        return ""
    last = max(seen for points in curves.values() for seen, _ in points) or 1.0
    low, high = _span(sorted(value for points in curves.values() for _, value in points))

    def place(seen: float, value: float) -> str:
        x = _LEFT + seen / last * (_WIDTH - _LEFT - _RIGHT)
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return f"{x:.1f},{_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    parts = []
    for value in _ticks(low, high):
        y = _HEIGHT - _BOTTOM - (value - low) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.6g}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        words = number(share * last)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="{anchor}">{words}</text>'
        )
    parts.append(f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 5}">images seen</text>')
    names, lines = _legend(list(curves))
    for at, (points, name) in enumerate(zip(curves.values(), names, strict=True)):
        drawn = " ".join(place(*point) for point in _thinned(points))
        line = f'<polyline class="curve" points="{drawn}"/>'
        parts.append(f'<g style="color: {COLOURS[at % len(COLOURS)]}">{line}{name}</g>')
    above = (lines - 1) * _LINE
    frame = f'viewBox="0 {-above} {_WIDTH} {_HEIGHT + above}"'
    return "\n".join([f'<svg {frame} role="img" aria-label="{escape(label)}">', *parts, "</svg>"])


def _legend(names: Sequence[str]) -> tuple[list[str], int]:
    """A dot and a name for each curve, in as many lines above the plot as they need, and how many that are."""
    places: list[tuple[float, int]] = []
    left, line = float(_LEFT), 0
    for name in names:
        width = 28 + _LETTER * len(name)
        if left > _LEFT and left + width > _WIDTH:
            left, line = float(_LEFT), line + 1
        places.append((left, line))
        left += width
    told = []
    for name, (x, row) in zip(names, places, strict=True):
        y = 16 - (line - row) * _LINE
        dot = f'<circle cx="{x + 5:.1f}" cy="{y - 4}" r="4"/>'
        told.append(f'{dot}<text class="name" x="{x + 13:.1f}" y="{y}">{escape(name)}</text>')
    return told, line + 1


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest value but for the ends; never empty."""
    cut = int(len(values) * _CUT)
    low, high = values[cut], values[-1 - cut]
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """Two to five round numbers between the two."""
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= max(factor for factor in (1, 2, 5) if factor * step <= (high - low) / 2)
    return [place * step for place in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = -(-len(points) // _POINTS)
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
