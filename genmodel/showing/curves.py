"""The record's losses, scores and gradient norms as one picture, drawn by matplotlib if it is installed."""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genmodel.files import durable

GROUPS = {"loss": "losses", "score": "scores", "gradient": "gradient norms"}  # prefix of a metric -> a panel's title
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00"]  # Okabe and Ito: also for the colour-blind
BROKEN = "#b00020"  # marks where a value stops being finite
_WILD = 100  # a value this many times the median makes the axis logarithmic

Points = list[tuple[int, float]]  # images seen, value


def write_curves(rows: Sequence[Mapping[str, Any]], out: Path) -> bool:
    """Write a PNG of the rows of metrics.jsonl: a panel for each of loss/, score/ and gradient/ that they hold.

    Values that are not finite are left out; where they begin is marked. A panel with a value far from all others gets
    an axis that is linear around zero and logarithmic beyond, so that an exploding loss does not hide the others.
    Returns whether it was written: without matplotlib, which MLflow installs, it is not.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    panels = {group: curves for group in GROUPS if (curves := curves_of(rows, group))}
    count = max(1, len(panels))
    figure = Figure(figsize=(9, 2.7 * count), layout="constrained")
    column = figure.subplots(count, squeeze=False, sharex=True)[:, 0]
    for axes, (group, curves) in zip(column, panels.items(), strict=False):
        axes.set_title(GROUPS[group], loc="left")
        _draw(axes, curves)
    figure.supxlabel("images seen" if panels else "the record holds no losses yet")
    durable.write_with(out, lambda handle: figure.savefig(handle, format="png", dpi=100))
    return True


def curves_of(rows: Sequence[Mapping[str, Any]], group: str) -> dict[str, Points]:
    """The rows' metrics named group/name, by name."""
    curves: dict[str, Points] = {}
    for row in rows:
        for metric, value in row["metrics"].items():
            head, _, name = metric.partition("/")
            if head == group:
                curves.setdefault(name, []).append((row["images_seen"], value))
    return curves


def _draw(axes: Any, curves: Mapping[str, Points]) -> None:
    everything = [point for points in curves.values() for point in points]
    sizes = [abs(value) for _, value in everything if math.isfinite(value)]
    usual = statistics.median(sizes) if sizes else 0.0
    if 0 < usual * _WILD < max(sizes, default=0.0):
        axes.set_yscale("symlog", linthresh=usual)
    axes.set_prop_cycle(color=COLOURS)
    for name, points in curves.items():
        seen, values = zip(*points, strict=True)
        axes.plot(
            seen, [value if math.isfinite(value) else math.nan for value in values], ".-", markersize=3, label=name
        )
    broken = [seen for seen, value in everything if not math.isfinite(value)]
    if broken:
        axes.axvline(min(broken), color=BROKEN, label=f"not finite from {min(broken):,}")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=len(COLOURS), frameon=False)  # above the curves
