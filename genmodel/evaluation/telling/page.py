"""The leaderboard as one self-contained HTML page: the champion, figures, costs, pictures; sortable, light and dark."""

import importlib.resources
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from genmodel.evaluation import table
from genmodel.evaluation.bounds import of_conditions
from genmodel.evaluation.report import Judged, Report
from genmodel.evaluation.telling import chart, curves
from genmodel.evaluation.telling.costs import COSTS, NOT_APPLICABLE
from genmodel.evaluation.telling.direction import LESS, direction
from genmodel.evaluation.telling.leaderboard import (
    Reports,
    bound_row,
    figures_of,
    leaderboard,
    split_by_conditions,
    with_costs,
)
from genmodel.evaluation.telling.pictures import Room, embedded, prune
from genmodel.evaluation.telling.standing import Standing, mark
from genmodel.files import durable
from genmodel.files.model_folder import read_config

_SHOWN = 12  # models with pictures: 500 would take half a gigabyte
_ACROSS = 5  # models on a printed sheet
_CLASSES = 16  # rows of a conditional model's grid, at most (genmodel/showing/samples.py)
_COST_UNITS = {
    "seconds": ["s", LESS],
    "gpu_hours": ["h", LESS],
    "kwh": ["kWh", LESS],
    "parameters": ["count", LESS],
    "bytes": ["of the weights", LESS],
    "device": ["of the training"],
    "data": ["digest"],
    "code": ["digest"],
}


def write_page(
    reports: Reports,
    models: Path,
    out: Path,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
    made_from: str = "",
    cache: Path | None = None,
    bounds: Mapping[str, Judged] | None = None,
    standing: Standing | None = None,
    real: Path | None = None,
    neighbours: Path | None = None,
) -> None:
    """Write the page of all `reports`, with the pictures of the best twelve from models/NAME, if kept, and links to
    those of the others: at most 4 MB for twelve. The folder `cache` keeps shrunk pictures, and no others.

    `costs` is as in leaderboard.with_costs, `bounds` as in leaderboard.with_bounds; `made_from` is a sentence on the
    state of the project; `standing` tells the champion, whose row alone is marked; `real` is a picture of real images,
    and neighbours/NAME-neighbours.png one of samples beside their nearest training images. Equal arguments and
    pictures give equal bytes.
    """
    from jinja2 import Environment  # torch installs it

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(_packaged("page.html.j2"))
    standing = standing or Standing()
    groups = [_group(group, costs or {}, bounds or {}, standing) for group in split_by_conditions(reports)]
    ranked = sorted((row["rank"], row["model"]) for group in groups for row in group["rows"])
    names = [name for _, name in ranked if _grid(models / name)]
    room, used, by_name = Room(len(names[:_SHOWN])), set[Path](), {report.name: report for report in reports}
    pictures = [_picture(models / name, by_name[name], room, cache, used, neighbours) for name in names[:_SHOWN]]
    words = {
        "links": [_links(models / name, out.parent) for name in names[_SHOWN:]],
        "real": embedded(real, room.of("grid"), cache, used) if real else "",
        "made_from": made_from,
        "standing": standing,
        "told": mark(standing),
        "css": _packaged("page.css"),
        "script": _packaged("page.js"),
        "show": table.show,
        "count": lambda value: f"{value:,}" if isinstance(value, int) else value,
        "named": chart.NAMED,
    }
    durable.write_text(out, template.render(groups=groups, pictures=pictures, **words))
    if cache:
        prune(cache, used)


def _packaged(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _group(
    reports: Reports, costs: Mapping[str, Mapping[str, Any]], bounds: Mapping[str, Judged], standing: Standing
) -> dict[str, Any]:
    """What the template needs from reports with equal conditions."""
    figures = figures_of(reports)
    frame = with_costs(leaderboard(reports), costs)
    rows = [dict(zip(map(str, frame), values, strict=True)) for values in frame.itertuples(index=False)]
    weights = {report.name: report.weights for report in reports}
    for row in rows:
        row["badge"] = standing.badge(weights[row["model"]])
    references = [_bound(name, judged, rows[0]) for name, judged in of_conditions(bounds, reports[0]).items()]
    everyone = rows + references
    main = [name for name, figure in figures.items() if not figure.detail]
    return {
        "conditions": reports[0].conditions,
        "figures": {name: _explained(figure) for name, figure in figures.items()},
        "units": {name: _unit(figure) for name, figure in figures.items()} | _COST_UNITS,
        "columns": ["rank", "model", *main],
        "more_columns": ["rank", "model", *(name for name in figures if name not in main)],
        "cost_columns": ["rank", "model", *COSTS, "data", "code"],
        "printed": ["family", *figures, *COSTS, "data", "code"],
        "sheets": [everyone[start : start + _ACROSS] for start in range(0, len(everyone), _ACROSS)],
        "rows": rows,
        "bounds": references,
        "chart": _chart(rows, reports[0].ranks_by),
    }


def _bound(name: str, judged: Judged, like: Mapping[str, Any]) -> dict[str, Any]:
    known = bound_row(name, judged)
    return {column: known.get(column, NOT_APPLICABLE) for column in like} | {"badge": ""}


def _unit(figure: table.Figure) -> list[str]:
    """Its unit and direction, for a heading."""
    return list(filter(None, [figure.unit, direction(figure)]))


def _explained(figure: table.Figure) -> str:
    """Meaning, direction and where it applies, as one sentence without the full stop."""
    parts = [figure.meaning, *([] if figure.better == "neither" else [f"{figure.better} is better"])]
    if figure.needs in table.ABILITIES:
        parts.append(f"for models with the ability {figure.needs}")
    elif figure.needs not in ("samples", "wavelets", "weights"):  # which every model has
        parts.append(f"where there are {figure.needs}")
    return "; ".join(parts)


def _chart(rows: list[dict[str, Any]], distance: str) -> dict[str, Any] | None:
    """Distance against the seconds of training or, if not all are known, against the number of parameters."""
    timed = all(row["seconds"] != NOT_APPLICABLE for row in rows)
    cost, words = ("seconds", "seconds of training") if timed else ("parameters", "parameters")
    points = []
    for row in rows:
        value, low, high = (row[f"{distance}{end}"] for end in ("", "_low", "_high"))
        if isinstance(value, float) and value > 0:
            ends: tuple[float, float] = (low, high) if isinstance(low, float) and 0 < low <= high else (value, value)
            crowned = row["badge"] == "champion"
            point = chart.Point(row["model"], row["family"], float(row[cost]), value, *ends, is_champion=crowned)
            points.append(point)
    left_out = [row["model"] for row in rows if row["model"] not in {point.name for point in points}]
    if not points:
        return None
    return {"svg": chart.draw(points, words, distance), "cost": words, "distance": distance, "left_out": left_out}


def _grid(model: Path) -> Path | None:
    """The last sample grid."""
    return max((model / "samples").glob("*.png"), default=None)


def _picture(
    model: Path, report: Report, room: Room, cache: Path | None, used: set[Path], neighbours: Path | None
) -> dict[str, Any]:
    grid = _grid(model)
    assert grid is not None
    shown = {"grid": grid, "walk": model / "walk.png", "replay": model / "replay.gif"}
    if neighbours:
        shown["neighbours"] = neighbours / f"{model.name}-neighbours.png"
    return {
        "name": model.name,
        "images_seen": f"{int(grid.stem):,}",
        "classes": _classes(model, report),
        "curves": curves.draw(curves.losses(model / "history.csv"), f"Losses of {model.name}"),
        **{kind: embedded(path, room.of(kind), cache, used) for kind, path in shown.items()},
    }


def _classes(model: Path, report: Report) -> list[str]:
    """The classes of the rows of its grid; none for a model that is not conditional."""
    if not (model / "config.json").exists():
        return []
    about = read_config(model)
    asked = about["config"].get("network", {}).get("conditional") or report.figures.get("conditional_accuracy")
    return list(about.get("classes", []))[:_CLASSES] if asked is not None and asked is not False else []


def _links(model: Path, page: Path) -> dict[str, str]:
    """Addresses relative to the page, which moves with its project."""
    grid, replay = _grid(model), model / "replay.gif"
    assert grid is not None
    place = {"grid": grid, **({"replay": replay} if replay.exists() else {})}
    return {"name": model.name} | {kind: quote(os.path.relpath(path, page)) for kind, path in place.items()}
