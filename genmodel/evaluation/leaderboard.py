"""The leaderboard: all reports in one table, best first, and never ranked across unlike conditions."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from genmodel import durable
from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation.features import figure_names

NOT_APPLICABLE = "n/a"
Reports = list[dict[str, Any]]  # of Report.as_dict


def leaderboard(reports: Reports, *, one_ranking: bool = False) -> pd.DataFrame:
    """A row a report, the lowest Frechet distance first; figures are floats, or "n/a" where they do not apply.

    Reports of unlike conditions form groups, ranked each by itself and told apart by a `group` column.
    With `one_ranking` such reports raise IncomparableError instead.
    """
    if not reports:
        raise EvaluationError("there are no reports to compare: evaluate a model first")
    groups = split_by_conditions(reports)
    if one_ranking and len(groups) > 1:
        names = ", ".join(sorted(report["name"] for report in reports))
        raise IncomparableError(f"{names} were judged under {len(groups)} different conditions: evaluate them again")
    rows = []
    for number, group in enumerate(groups, start=1):
        for rank, report in enumerate(sorted(group, key=_order), start=1):
            rows.append({**({"group": number} if len(groups) > 1 else {}), "rank": rank, **_row(report)})
    frame = pd.DataFrame(rows)
    trailing = ["bits_per_dim", "n_samples", "n_real", "extractor", "image_size"]
    frame = frame[[column for column in frame if column not in trailing] + trailing]
    return frame.astype(object).where(frame.notna(), NOT_APPLICABLE)


def split_by_conditions(reports: Reports) -> list[Reports]:
    """The reports in groups that may be compared within; which group comes first depends on their contents alone."""
    groups: dict[str, Reports] = {}
    for report in reports:
        groups.setdefault(durable.digest_json(report["conditions"]), []).append(report)
    return [groups[digest] for digest in sorted(groups)]


def _order(report: dict[str, Any]) -> tuple[bool, float, str]:
    names = figure_names(report["conditions"]["extractor"]["name"])
    distance = float(report["figures"][names.frechet])
    return math.isnan(distance), distance, report["name"]  # a distance that is NaN comes last


def _row(report: dict[str, Any]) -> dict[str, Any]:
    conditions, figures = report["conditions"], report["figures"]
    names = [*figure_names(conditions["extractor"]["name"]), "bits_per_dim"]
    return {
        "model": report["name"],
        "family": report["family"],
        **{name: figures[name] for name in names if name in figures},
        "n_samples": conditions["n_samples"],
        "n_real": conditions["n_real"],
        "extractor": f"{conditions['extractor']['name']} {conditions['extractor']['fingerprint'][:8]}",
        "image_size": conditions["image_size"],
    }


def write(frame: pd.DataFrame, csv: Path, md: Path) -> None:
    """Write the leaderboard as CSV (figures as the reports have them) and as an aligned Markdown table."""
    durable.write_text(csv, frame.to_csv(index=False, lineterminator="\n"))
    durable.write_text(md, markdown(frame))


def markdown(frame: pd.DataFrame) -> str:
    """The table with figures of 4 significant digits, columns aligned, numbers to the right."""
    columns = [_column(str(name), list(frame[name])) for name in frame]
    return "".join(f"| {' | '.join(row)} |\n" for row in zip(*columns, strict=True))


def _column(name: str, values: list[Any]) -> list[str]:
    """Name, rule and cells, all of one width."""
    cells = [name, *map(show, values)]
    width = max(3, *map(len, cells))
    if any(isinstance(value, int | float) for value in values):
        return [cells[0].rjust(width), "-" * (width - 1) + ":", *(cell.rjust(width) for cell in cells[1:])]
    return [cells[0].ljust(width), "-" * width, *(cell.ljust(width) for cell in cells[1:])]


def show(value: Any) -> str:
    """A cell for people: figures with 4 significant digits."""
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.4g}"
