"""Pictures for `dvc plots`, which draws these without a network: DVC's own charts load their scripts from one."""

import math
import shutil
from html import escape
from pathlib import Path

from genmodel.evaluation.telling import curves
from genmodel.evaluation.telling.chart import COLOURS
from genmodel.evaluation.telling.leaderboard import Reports
from genmodel.files import durable

_WIDTH, _NAME, _VALUE, _BAR = 640, 190, 170, 30  # pixels: of the picture, a name, its figure, and a bar's height
_LETTERS = 22  # of a name, at most
_STYLE = """<style>
svg { background: #fff; font-family: system-ui, sans-serif; }
text { fill: #1c2330; font-size: 14px; }
.tick, .axis { fill: #5d6778; } .axis { text-anchor: middle; } .name { font-weight: 600; }
.grid { stroke: #dfe3ea; } .span { stroke: #1c2330; stroke-width: 2; }
.curve { fill: none; stroke: currentColor; stroke-width: 2; } circle { fill: currentColor; }
</style>"""


def write_plots(reports: Reports, models: Path, folder: Path) -> None:
    """Write ranking.svg and, for each model with a record, NAME-losses.svg and NAME-timeline.png into a new `folder`.

    The same reports and models give the same bytes.
    """
    durable.remove_folder(folder)
    durable.write_text(folder / "ranking.svg", _standalone(_ranking(reports)))
    for report in reports:
        model = models / report.name
        losses = curves.draw(curves.losses(model / "history.csv"), f"Losses of {report.name}")
        if losses:
            durable.write_text(folder / f"{report.name}-losses.svg", _standalone(losses))
        if (model / "timeline.png").exists():
            shutil.copyfile(model / "timeline.png", folder / f"{report.name}-timeline.png")


def _ranking(reports: Reports) -> str:
    """A bar for each model, the best first, with the interval of its distance."""
    ranked = sorted(reports, key=lambda report: (math.isnan(report.distance), report.distance, report.name))
    ends = [end for report in ranked for end in (report.distance, *report.intervals.get(report.ranks_by, ()))]
    longest = max([end for end in ends if math.isfinite(end)], default=0.0) or 1.0
    height = 36 + _BAR * len(ranked)
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" role="img" aria-label="Ranking">',
        f'<text class="axis" x="{_WIDTH / 2:.0f}" y="20">{escape(ranked[0].ranks_by)}, lower is better</text>',
    ]
    for place, report in enumerate(ranked):
        y, value = 32 + _BAR * place, report.distance
        name = report.name if len(report.name) <= _LETTERS else f"{report.name[: _LETTERS - 1]}…"
        told = f"{value:.4g}"
        parts.append(f'<text class="name" x="{_NAME - 10}" y="{y + 19}" text-anchor="end">{escape(name)}</text>')
        if math.isfinite(value):
            parts.append(
                f'<rect x="{_NAME}" y="{y + 5}" width="{_length(value, longest):.1f}" height="{_BAR - 10}"'
                f' fill="{COLOURS[0]}" opacity=".7"/>'
            )
        if report.ranks_by in report.intervals and all(map(math.isfinite, report.intervals[report.ranks_by])):
            low, high = report.intervals[report.ranks_by]
            x1, x2 = _NAME + _length(low, longest), _NAME + _length(high, longest)
            middle = y + _BAR / 2
            parts.append(f'<line class="span" x1="{x1:.1f}" x2="{x2:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/>')
            told += f" [{low:.4g}, {high:.4g}]"
        parts.append(f'<text class="tick" x="{_WIDTH - _VALUE + 10}" y="{y + 19}">{told}</text>')
    return "\n".join([*parts, "</svg>"])


def _length(value: float, longest: float) -> float:
    return max(value, 0.0) / longest * (_WIDTH - _NAME - _VALUE)


def _standalone(svg: str) -> str:
    """An SVG of the page as a file of its own."""
    first, rest = svg.split(">", 1)
    size = "" if " width=" in first else ' width="640"'
    return f'{first} xmlns="http://www.w3.org/2000/svg"{size}>{_STYLE}{rest}\n'
