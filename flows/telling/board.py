"""The leaderboard's files beside DVC: leaderboard.csv, .md and .html, which tell costs, the champion and what changed.

The stage `compare` writes them; `register`, which decides afterwards, writes the page again if it tells another
champion or decision. DVC versions none of them: costs and decisions are not the same in two runs.
"""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.telling import outcome
from genmodel.evaluation.gate import Decision
from genmodel.evaluation.telling.standing import Standing, tells
from genmodel.files import durable

if TYPE_CHECKING:
    from flows.registry.registry import Version
    from genmodel.evaluation.report import Report

LEADERBOARD = "leaderboard.csv"  # and .md, .html
STATE = "champion.json"  # what the last run of `register` found
OVER_TIME = "champion.html"  # what the registry's ledger shows over time
_COMPARED = Path("runs/compared.json")  # what the last two comparisons were made from
_REAL = Path("runs/real")


def write(root: Path, reports: list["Report"], *, compared: bool = False) -> None:
    """Write all of them from the reports of the models in params.yaml; `compared`: a comparison has just been made."""
    from genmodel.evaluation import bounds
    from genmodel.evaluation.telling import leaderboard, page

    frame = leaderboard.leaderboard(reports, one_ranking=True)
    costs = outcome.costs(root)
    judged = bounds.of_conditions(bounds.read(root / "reference" / bounds.FILE), reports[0])
    told = leaderboard.with_bounds(leaderboard.with_costs(frame, costs), judged)
    table = root / LEADERBOARD
    leaderboard.write(told, table, table.with_suffix(".md"), leaderboard.seeds_table(reports))
    if compared:
        _remember(root, reports)
    page.write_page(
        reports,
        root / "models",
        table.with_suffix(".html"),
        costs,
        outcome.made_from(root),
        root / "runs/thumbs",
        judged,
        standing(root),
        _real_images(root, reports[0]),
        root / "reports",
    )


def refresh(root: Path) -> None:
    """Write the page again unless it tells the present champion and decision."""
    if tells((root / LEADERBOARD).with_suffix(".html"), standing(root)):
        return
    from flows.versioning.current import read_report

    with (root / "ranking.csv").open(newline="") as file:
        names = [row["model"] for row in csv.DictReader(file)]
    write(root, [read_report(name, root=root) for name in names])


def crowned(root: Path, champion: "Version | None") -> None:
    """Have the page tell a champion that a command has put there or taken away, where a page was written before."""
    path = root / STATE
    if (root / LEADERBOARD).exists() and path.exists():
        durable.write_json(path, {**_read(path), "champion": told_of(champion)})
        refresh(root)


def told_of(champion: "Version | None") -> dict[str, str] | None:
    """The champion as champion.json keeps it for the page."""
    if champion is None:
        return None
    name, weights = (champion.tags.get(f"genmodel.{tag}", "") for tag in ("name", "weights"))
    return {"version": champion.number, "name": name, "weights": weights}


def standing(root: Path) -> Standing:
    """What champion.json, decision.json and the notes of the comparisons tell, as far as it is about this ranking."""
    state, told = _read(root / STATE), _read(root / _COMPARED)
    champion = state.get("champion") or {}
    decision = None
    if state.get("ranking") == _ranking(root) and (root / "decision.json").exists():
        decision = Decision.from_dict(_read(root / "decision.json"), "decision.json")
    before = told.get("before")
    return Standing(
        decision=decision,
        version=champion.get("version", ""),
        name=champion.get("name", ""),
        weights=champion.get("weights", ""),
        changes=None if before is None else told.get("changes", {}),
        since="" if before is None else before.get("time", ""),
        over_time=OVER_TIME if (root / OVER_TIME).exists() else "",
    )


def _ranking(root: Path) -> str:
    """The digest of ranking.csv, which a decision is about."""
    path = root / "ranking.csv"
    return durable.digest_file(path) if path.exists() else ""


def _remember(root: Path, reports: list["Report"]) -> None:
    """Note what this comparison was made from, and what is different from the one before; equal ones are one."""
    from genmodel.evaluation.telling.changes import changes, state
    from genmodel.files.model_folder import read_config

    told = _read(root / _COMPARED)
    settings = {report.name: read_config(root / "models" / report.name)["config"] for report in reports}
    now = state(reports, settings)
    last = told.get("now")
    if last is not None and last["state"] == now:
        return
    found = {} if last is None else changes(last["state"], now)
    time = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    durable.write_json(root / _COMPARED, {"before": last, "now": {"state": now, "time": time}, "changes": found})


def _real_images(root: Path, report: "Report") -> Path | None:
    """A picture of the block's images, made once for each block; None if the data is not here."""
    size, digest = report.conditions.image_size, report.conditions.block
    path = root / _REAL / f"{digest[:16]}-{size}.png"
    if path.exists():
        return path
    from genmodel.data.block import Block
    from genmodel.data.contact import write_real
    from genmodel.errors import BlockError

    try:
        block = Block.open(root / "data")
        if block.digest != digest:
            return None
        write_real(block, size, path)
    except BlockError:
        return None
    for other in set(path.parent.glob("*.png")) - {path}:
        other.unlink(missing_ok=True)
    return path


def _read(path: Path) -> dict[str, Any]:
    """A JSON file of this project; nothing if it is absent or cannot be read: the page then tells less."""
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
