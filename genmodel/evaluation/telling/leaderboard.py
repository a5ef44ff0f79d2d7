"""The leaderboard: all reports in one table, best first, never ranked across different conditions."""

import math
import statistics
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation import table
from genmodel.evaluation.report import Judged, Report
from genmodel.evaluation.telling.costs import NOT_APPLICABLE, with_taken
from genmodel.files import durable
from genmodel.output.printable import markdown_text
from genmodel.sizes import CHANNELS

Reports = list[Report]
REFERENCE = "reference"  # the family of rows of reference
_ENDS = ("", "_low", "_high", "_mean", "_spread")  # of a figure's columns


def leaderboard(reports: Reports, *, one_ranking: bool = False) -> pd.DataFrame:
    """A row per report, the lowest Frechet distance first; figures are floats, or "n/a" where they do not apply.

    A figure that applies to no report has no column; any other is followed by the ends of its 95% interval, NAME_low
    and NAME_high. For models that differ only in their seed, `seeds` is their number, with mean and spread (standard
    deviation) of their Frechet distances.
    Reports of different conditions form groups, each ranked by itself, marked by a `group` column; `channels` is a
    column if they differ.
    With `one_ranking` such reports raise IncomparableError instead.
    """
    if not reports:
        raise EvaluationError("there are no reports to compare: evaluate a model first")
    groups = split_by_conditions(reports)
    if one_ranking and len(groups) > 1:
        names = ", ".join(sorted(report.name for report in reports))
        raise IncomparableError(f"{names} were judged under {len(groups)} different conditions: evaluate them again")
    rows, figures = [], figures_of([report for group in groups for report in group])
    for number, group in enumerate(groups, start=1):
        families = _families(group)
        for rank, report in enumerate(sorted(group, key=_order), start=1):
            first = {**({"group": number} if len(groups) > 1 else {}), "rank": rank}
            rows.append({**first, **_row(report, families[report.recipe], figures)})
    frame = pd.DataFrame(rows)
    trailing = ["parameters", "bytes", "n_samples", "n_real", "extractor", "image_size", "channels", "data", "code"]
    columns = [f"{name}{end}" for name in figures for end in _ENDS if f"{name}{end}" in frame]
    leading = [name for name in frame if name not in {*trailing, *columns}]
    frame = frame[leading + columns + trailing]
    frame = frame if frame["channels"].nunique() > 1 else frame.drop(columns="channels")
    return frame.astype(object).where(frame.notna(), NOT_APPLICABLE)


def figures_of(reports: Reports) -> dict[str, table.Figure]:
    """The figures that apply to any of the reports, by name, in column order."""
    known = table.in_order(report.conditions.extractor.name for report in reports)
    applied = {name for report in reports for name, value in report.figures.items() if value is not None}
    return {name: figure for name, figure in known.items() if name in applied}


def seeds_table(reports: Reports) -> pd.DataFrame | None:
    """Mean and spread of every figure over the seeds of each recipe that has several; None if none has."""
    rows: list[dict[str, Any]] = []
    for group in split_by_conditions(reports):
        for members in _families(group).values():
            if len(members) > 1:
                models = ", ".join(sorted(report.name for report in members))
                row: dict[str, Any] = {"models": models, "seeds": len(members)}
                for name, figure in figures_of(members).items():
                    mean, spread = _over_seeds(members, name)
                    if mean is not None and spread is not None:
                        row[name] = f"{figure.show(mean)} \u00b1 {figure.show(spread)}"
                rows.append(row)
    rows.sort(key=lambda row: str(row["models"]))
    return pd.DataFrame(rows).fillna(NOT_APPLICABLE) if rows else None


def _families(reports: Reports) -> dict[str, Reports]:
    """Reports by recipe: within one they differ only in the training seed. Equal weights count once."""
    families: dict[str, dict[str, Report]] = {}
    for report in sorted(reports, key=lambda report: report.name):
        families.setdefault(report.recipe, {}).setdefault(report.weights, report)
    return {recipe: list(members.values()) for recipe, members in families.items()}


def _over_seeds(members: Reports, name: str) -> tuple[float | None, float | None]:
    values = [value for report in members if (value := report.figures.get(name)) is not None]
    if len(values) < 2:
        return None, None
    if not all(map(math.isfinite, values)):
        return math.nan, math.nan
    return statistics.fmean(values), statistics.stdev(values)


def split_by_conditions(reports: Reports) -> list[Reports]:
    """The reports in groups of equal conditions; the order of the groups depends only on their contents."""
    groups: dict[str, Reports] = {}
    for report in reports:
        groups.setdefault(durable.digest_json(report.conditions.as_dict()), []).append(report)
    return [groups[digest] for digest in sorted(groups)]


def _order(report: Report) -> tuple[bool, float, str]:
    return math.isnan(report.distance), report.distance, report.name  # NaN comes last


def _row(report: Report, members: Reports, figures: Iterable[str]) -> dict[str, Any]:
    conditions = report.conditions
    row: dict[str, Any] = {"model": report.name, "family": report.family}
    if len(members) > 1:
        row["seeds"] = len(members)
    for name in figures:
        low, high = report.intervals.get(name, (None, None))
        row |= {name: report.figures.get(name), f"{name}_low": low, f"{name}_high": high}
        if name == report.ranks_by and len(members) > 1:
            row[f"{name}_mean"], row[f"{name}_spread"] = _over_seeds(members, name)
    return {
        **row,
        "parameters": report.parameters,
        "bytes": report.size,
        "n_samples": conditions.n_samples,
        "n_real": conditions.n_real,
        "extractor": conditions.extractor.in_words,
        "image_size": conditions.image_size.plain(),
        "channels": CHANNELS[conditions.channels],
        "data": conditions.block[:8],
        "code": report.code[:8],
    }


def with_costs(frame: pd.DataFrame, costs: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The leaderboard with the cost of each training (costs.taken), from its cost.json, by model name."""
    rows = [
        with_taken(dict(zip(map(str, frame), values, strict=True)), costs.get(str(name), {}))
        for name, values in zip(frame["model"], frame.itertuples(index=False), strict=True)
    ]
    return pd.DataFrame(rows, dtype=object)


def with_bounds(frame: pd.DataFrame, bounds: Mapping[str, Judged]) -> pd.DataFrame:
    """The leaderboard, with a row of reference below for each of `bounds` (bounds.py): its figures, and no rank."""
    rows = [
        {name: bound_row(name_of, judged).get(str(name), NOT_APPLICABLE) for name in frame}
        for name_of, judged in bounds.items()
    ]
    return pd.concat([frame, pd.DataFrame(rows, dtype=object)], ignore_index=True) if rows else frame


def bound_row(name: str, judged: Judged) -> dict[str, Any]:
    """The cells of a row of reference that are known."""
    row: dict[str, Any] = {"model": name, "family": REFERENCE, "n_samples": judged.conditions.n_samples}
    for figure, value in judged.figures.items():
        if value is not None:
            row |= {figure: value}
            row |= dict(zip((f"{figure}_low", f"{figure}_high"), judged.intervals.get(figure, ()), strict=False))
    return row


def write(frame: pd.DataFrame, csv: Path, md: Path, seeds: pd.DataFrame | None = None) -> None:
    """Write the leaderboard as CSV and as Markdown, with the seeds' table."""
    write_csv(frame, csv)
    more = "" if seeds is None else f"\nOver training seeds, mean \u00b1 standard deviation:\n\n{markdown(seeds)}"
    durable.write_text(md, markdown(frame) + more)


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Figures as in the reports; equal frames give equal bytes."""
    durable.write_text(path, _csv(frame))


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, lineterminator="\n")


def read_ranking(path: Path, reports: Reports) -> pd.DataFrame:
    """The leaderboard of `reports` from the file `path` that write_csv wrote; EvaluationError if it is another's."""
    frame = leaderboard(reports, one_ranking=True)
    fix = "run `dvc repro -f -s compare` first"
    if not path.exists():
        raise EvaluationError(f"{path} is missing: {fix}")
    if path.read_bytes() != _csv(frame).encode():
        raise EvaluationError(f"{path} is damaged or was made from other reports: {fix}")
    return frame


def markdown(frame: pd.DataFrame) -> str:
    """The table with figures in their formats for people, columns aligned, numbers to the right.

    An interval follows its figure: 4.892 [4.701, 5.103].
    """
    columns = [
        _column(str(name), list(frame[name]), _ends(frame, str(name)))
        for name in frame
        if not str(name).endswith(("_low", "_high"))
    ]
    return "".join(f"| {' | '.join(row)} |\n" for row in zip(*columns, strict=True))


def _ends(frame: pd.DataFrame, name: str) -> list[str]:
    """The interval of each cell, or nothing."""
    if f"{name}_low" not in frame:
        return [""] * len(frame)
    pairs = zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
    ends = [(low == NOT_APPLICABLE, table.show(name, low), table.show(name, high)) for low, high in pairs]
    return ["" if unknown else f" [{low}, {high}]" for unknown, low, high in ends]


def _column(name: str, values: list[Any], ends: list[str]) -> list[str]:
    """Name, rule and cells, all of one width."""
    cells = [name, *(_text(name, value) + end for value, end in zip(values, ends, strict=True))]
    width = max(3, *map(len, cells))
    if any(isinstance(value, int | float) for value in values):
        return [cells[0].rjust(width), "-" * (width - 1) + ":", *(cell.rjust(width) for cell in cells[1:])]
    return [cells[0].ljust(width), "-" * width, *(cell.ljust(width) for cell in cells[1:])]


def _text(name: str, value: Any) -> str:
    return markdown_text(value) if isinstance(value, str) else table.show(name, value)
