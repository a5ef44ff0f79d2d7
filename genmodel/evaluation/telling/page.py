"""The leaderboard as one self-contained HTML page: figures, costs, samples, replays; sortable, light and dark."""

import base64
import importlib.resources
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image, ImageSequence

from genmodel.evaluation import table
from genmodel.evaluation.bounds import of_conditions
from genmodel.evaluation.report import Judged
from genmodel.evaluation.telling import chart
from genmodel.evaluation.telling.costs import COSTS, NOT_APPLICABLE
from genmodel.evaluation.telling.leaderboard import (
    Reports,
    bound_row,
    figures_of,
    leaderboard,
    split_by_conditions,
    with_costs,
)
from genmodel.files import durable

_SHOWN = 10  # models with pictures: 500 would take half a gigabyte
_SIDE, _MOVING_SIDE = 640, 360  # pixels, of a grid and of a replay
_STILL = 80  # WebP quality of grids that were made smaller
_QUALITY = 50  # of the replays' WebP: a third of the GIF's bytes, no visible loss


def write_page(
    reports: Reports,
    models: Path,
    out: Path,
    costs: Mapping[str, Mapping[str, Any]] | None = None,
    made_from: str = "",
    cache: Path | None = None,
    bounds: Mapping[str, Judged] | None = None,
) -> None:
    """Write the page of all `reports`, with the last sample grid, the walk and the replay of the best ten from
    models/NAME, if kept, and links to those of the others. The folder `cache` keeps shrunk pictures, by the weights.

    `costs` is as in leaderboard.with_costs, `bounds` as in leaderboard.with_bounds; `made_from` is a sentence on the
    state of the project. Equal arguments and pictures give equal bytes.
    """
    from jinja2 import Environment  # torch installs it

    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        importlib.resources.files(__package__).joinpath("page.html.j2").read_text("utf-8")
    )
    groups = [_group(group, costs or {}, bounds or {}) for group in split_by_conditions(reports)]
    ranked = sorted((row["rank"], row["model"]) for group in groups for row in group["rows"])
    names = [name for _, name in ranked if _grid(models / name)]
    weights = {report.name: report.weights for report in reports}
    pictures = [_picture(models / name, weights[name], cache) for name in names[:_SHOWN]]
    links = [_links(models / name, out.parent) for name in names[_SHOWN:]]
    words = {"made_from": made_from, "show": table.show, "count": lambda value: f"{value:,}"}
    durable.write_text(out, template.render(groups=groups, pictures=pictures, links=links, **words))


def _group(reports: Reports, costs: Mapping[str, Mapping[str, Any]], bounds: Mapping[str, Judged]) -> dict[str, Any]:
    """What the template needs from reports with equal conditions."""
    figures = {name: _explained(figure) for name, figure in figures_of(reports).items()}
    frame = with_costs(leaderboard(reports), costs)
    rows = [dict(zip(map(str, frame), values, strict=True)) for values in frame.itertuples(index=False)]
    return {
        "conditions": reports[0].conditions,
        "figures": figures,
        "columns": ["rank", "model", "family", *figures],
        "cost_columns": ["rank", "model", "family", *COSTS, "data", "code"],
        "rows": rows,
        "bounds": [_bound(name, judged, rows[0]) for name, judged in of_conditions(bounds, reports[0]).items()],
        "chart": _chart(rows, reports[0].ranks_by),
    }


def _bound(name: str, judged: Judged, like: Mapping[str, Any]) -> dict[str, Any]:
    known = bound_row(name, judged)
    return {column: known.get(column, NOT_APPLICABLE) for column in like}


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
            ends = (low, high) if isinstance(low, float) and 0 < low <= high else (value, value)
            points.append(chart.Point(row["model"], row["family"], float(row[cost]), value, *ends))
    left_out = [row["model"] for row in rows if row["model"] not in {point.name for point in points}]
    if not points:
        return None
    return {"svg": chart.draw(points, words, distance), "cost": words, "distance": distance, "left_out": left_out}


def _grid(model: Path) -> Path | None:
    """The last sample grid."""
    return max((model / "samples").glob("*.png"), default=None)


def _picture(model: Path, weights: str, cache: Path | None) -> dict[str, str]:
    grid = _grid(model)
    assert grid is not None
    shown = {"grid": grid, "walk": model / "walk.png", "replay": model / "replay.gif"}
    return {"name": model.name, "images_seen": f"{int(grid.stem):,}"} | {
        kind: base64.b64encode(_kept(path, weights, cache)).decode() if path.exists() else ""
        for kind, path in shown.items()
    }


def _links(model: Path, page: Path) -> dict[str, str]:
    """Addresses relative to the page, which moves with its project."""
    grid, replay = _grid(model), model / "replay.gif"
    assert grid is not None
    place = {"grid": grid, **({"replay": replay} if replay.exists() else {})}
    return {"name": model.name} | {kind: quote(os.path.relpath(path, page)) for kind, path in place.items()}


def _kept(path: Path, weights: str, cache: Path | None) -> bytes:
    """A model's picture as the page shows it, from the cache if possible."""
    kept = cache / f"{weights[:32]}-{path.stem}.webp" if cache else None
    if kept and kept.exists():
        return kept.read_bytes()
    made = _smaller(path)
    if kept:
        durable.write_bytes(kept, made)
    return made


def _smaller(path: Path) -> bytes:
    """A PNG or GIF as WebP of at most _SIDE (_MOVING_SIDE) pixels per side; a GIF's frames keep their durations."""
    with Image.open(path) as picture:
        frames = [(frame.convert("RGB"), frame.info.get("duration", 0)) for frame in ImageSequence.Iterator(picture)]
    side = _SIDE if len(frames) == 1 else _MOVING_SIDE
    for frame, _ in frames:
        frame.thumbnail((side, side))
    (first, _), *rest = frames
    buffer = io.BytesIO()
    if not rest:
        first.save(buffer, format="WEBP", lossless=max(first.size) < _SIDE, quality=_STILL)
        return buffer.getvalue()
    first.save(
        buffer,
        format="WEBP",
        save_all=True,
        append_images=[frame for frame, _ in rest],
        duration=[lasting for _, lasting in frames],
        loop=0,
        quality=_QUALITY,
    )
    return buffer.getvalue()
