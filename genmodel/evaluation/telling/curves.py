"""The losses of a training as an SVG in the page's colours."""

import csv
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from genmodel.evaluation.telling.chart import COLOURS, number

_WIDTH, _HEIGHT = 600, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 44, 48  # pixels around the plot
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
    """An SVG of 600 x 300: value against images seen, a colour and a name for each curve; empty without any."""
    if not curves:
        return ""
    last = max(seen for points in curves.values() for seen, _ in points) or 1.0
    low, high = _span(sorted(value for points in curves.values() for _, value in points))

    def place(seen: float, value: float) -> str:
        x = _LEFT + seen / last * (_WIDTH - _LEFT - _RIGHT)
        share = min(max((value - low) / (high - low), 0.0), 1.0)
        return f"{x:.1f},{_HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(label)}">']
    for step in range(4):
        value = low + (high - low) * step / 3
        y = _HEIGHT - _BOTTOM - step / 3 * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for share, anchor in ((0.0, "start"), (0.5, "middle"), (1.0, "end")):
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        words = number(share * last)
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="{anchor}">{words}</text>'
        )
    parts.append(f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 6}">images seen</text>')
    left = float(_LEFT)
    for at, (name, points) in enumerate(curves.items()):
        line = " ".join(place(*point) for point in _thinned(points))
        parts.append(
            f'<g style="color: {COLOURS[at % len(COLOURS)]}"><polyline class="curve" points="{line}"/>'
            f'<circle cx="{left + 5:.1f}" cy="20" r="5"/></g>'
            f'<text class="name" x="{left + 15:.1f}" y="25">{escape(name)}</text>'
        )
        left += 34 + 8.6 * len(name)
    return "\n".join([*parts, "</svg>"])


def _span(values: Sequence[float]) -> tuple[float, float]:
    """From the lowest to the highest value but for the ends; never empty."""
    cut = int(len(values) * _CUT)
    low, high = values[cut], values[-1 - cut]
    margin = 0.05 * (high - low) or 0.5 * abs(high) or 0.5
    return low - margin, high + margin


def _thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    step = -(-len(points) // _POINTS)
    kept = list(points[::step])
    return kept if kept[-1] == points[-1] else [*kept, points[-1]]
