"""What a run ends with: leaderboard, pictures and decision, for the terminal and for Prefect's UI."""

import base64
import csv
import hashlib
import io
import json
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.settings import Settings
from flows.tracking.trainings import git_commit
from flows.versioning import dvc as versioning
from genmodel.errors import GenmodelError
from genmodel.evaluation import table
from genmodel.evaluation.telling.costs import with_taken
from genmodel.files import durable
from genmodel.files.model_folder import read_config
from genmodel.output.masking import masked
from genmodel.output.printable import markdown_code, markdown_text, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


def leaderboard(root: Path) -> list[dict[str, Any]]:
    """The rows of ranking.csv, best first, with the costs of training; numbers as numbers."""
    path = root / "ranking.csv"
    if not path.exists():
        raise GenmodelError(f"{path} is missing, though nothing is left to run: does dvc.yaml still name it?")
    _check_outs(root)
    text = io.StringIO(path.read_text())
    rows = [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(text)]
    taken = costs(root)
    return [with_taken(row, taken.get(str(row["model"]), {})) for row in rows]


def _check_outs(root: Path) -> None:
    """GenmodelError if a small file that is shown, here or by `dvc metrics`, is not what a stage wrote."""
    lock = root / "dvc.lock"
    locked = versioning.outs(lock.read_text()) if lock.exists() else {}
    for path in (path for path in map(root.joinpath, locked) if path.suffix in (".csv", ".json") and path.is_file()):
        if (
            locked[path.relative_to(root).as_posix()]
            != hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
        ):
            raise GenmodelError(f"{path} is damaged, it is not what dvc.lock says: delete it and run again")


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def pictures(root: Path) -> list[Path]:
    """Each model's latest samples, relative to the project."""
    folders = sorted(folder for folder in root.glob("models/*/samples") if any(folder.glob("*.png")))
    return [max(folder.glob("*.png")).relative_to(root) for folder in folders]


def champion(root: Path) -> str | None:
    """Who is champion, as the stage `register` found or left it in this run: in the registry, not in DVC's cache."""
    state, decision = root / "champion.json", root / "decision.json"
    path = state if state.exists() else decision
    if not path.exists():
        return None
    try:
        told = json.loads(path.read_text())
        return printable(str(told["text"] if path == state else f"{told['outcome']}: {' '.join(told['reasons'])}"))
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return f"{path.name} cannot be read: `python -m flows.stages register` writes it again"


def champion_days(root: Path) -> list[dict[str, Any]]:
    """The champion's figure by day, as `register` wrote it (flows/registry/history/over_time.py); the newest first."""
    path = root / "champion.csv"
    if not path.exists():
        return []
    rows = csv.DictReader(io.StringIO(path.read_text(errors="replace")))
    return [{name: _number(str(text)) for name, text in row.items()} for row in rows][::-1]


def markdown(settings: Settings) -> str:
    """The decision, where to compare the runs, and the pictures embedded: browsers do not follow links to files."""
    lines = [f"**{markdown_text(masked(told))}**" for told in [champion(settings.root)] if told]
    place = f"<{masked(settings.tracking_uri)}>" if settings.served else "`make ui`"
    lines.append(f"Compare the runs: {place}")
    for path in pictures(settings.root):
        data = base64.b64encode((settings.root / path).read_bytes()).decode()
        title = f"### {markdown_text(path.parts[1])}\n\n{markdown_code(str(path))}"
        lines.append(f"{title}\n\n![samples](data:image/png;base64,{data})")
    return "\n\n".join(lines)


def costs(root: Path) -> dict[str, dict[str, Any]]:
    """The cost of each model's training, by name: seconds, images_per_second; read from its record, if that is kept."""
    told: dict[str, dict[str, Any]] = {}
    for config in root.glob("models/*/config.json"):
        path = root / "runs" / read_config(config.parent)["fingerprint"][:16] / "cost.json"
        if path.exists():
            fix = f"delete it; `dvc repro -f -s train@{config.parent.name}` writes it again"
            told[config.parent.name] = durable.read_sealed(path, GenmodelError, fix)
    return told


def show(settings: Settings) -> None:
    """Print all of it, and the command that opens the MLflow UI."""
    from rich.console import Console

    rows = leaderboard(settings.root)
    console = Console(width=None if sys.stdout.isatty() else 130, markup=False)
    console.print()
    console.print(_fitting(rows, console))
    for path in pictures(settings.root):
        console.print(f"samples   {printable(str(path))}", highlight=False, soft_wrap=True)
    if (page := settings.root / "leaderboard.html").exists():
        console.print(f"page      {page.name}    (intervals, costs, samples, replays)", highlight=False)
    if (page := settings.root / "champion.html").exists():
        console.print(f"over time {page.name}    (the champion's figure by day, every decision)", highlight=False)
    console.print(f"champion  {masked(champion(settings.root) or 'undecided')}", highlight=False, soft_wrap=True)
    console.print("compare   make ui    (the runs side by side, in MLflow)", highlight=False)


def _fitting(rows: list[dict[str, Any]], console: "Console") -> "Table":
    """The table with as many figures as the terminal has room for; rich would cut words and numbers instead."""
    names = narrow(rows[0] if rows else {})
    unbounded = console.options.update(width=1000)
    for count in range(max(1, len(names)), 0, -1):
        table = _table(rows, names[:count])
        if console.measure(table, options=unbounded).minimum <= console.width:
            break
    return table


def _table(rows: list[dict[str, Any]], names: list[str]) -> "Table":
    """No column is wider than its cells, or the longest word of its heading."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title="Leaderboard, best first", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    table.pad_edge, table.padding = False, (0, 1, 0, 0)
    seconds = "; seconds are of the training" if "seconds" in names else ""
    table.caption, table.caption_justify = f"{_conditions(rows)}{seconds}".removeprefix("; "), "left"
    columns = {name: [cell(name, row[name]) for row in rows] for name in names}
    for name, cells in columns.items():
        width = max(len(word) for word in (*name.split("_"), *cells))
        text = all(isinstance(row[name], str) for row in rows)
        heading = textwrap.fill(name.replace("_", " "), width)
        table.add_column(heading, justify="left" if text else "right", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def cell(name: str, value: Any) -> str:
    if name == "seconds" and isinstance(value, float):
        return f"{value:.0f}"
    return printable(table.show(name, value))


def made_from(root: Path) -> str:
    """The commit that the leaderboard was made from, as a sentence; empty outside a git repository."""
    if (state := git_commit(root)) is None:
        return ""
    return f"Made from commit {state[0][:12]}{' and files changed since' if state[1] else ''}."


def narrow(columns: Iterable[str]) -> list[str]:
    """The columns for a terminal; the leaderboard's files have all of them, and the intervals."""
    return [name for name in columns if name not in {*_CONDITIONS, *_ELSEWHERE} and not _is_detail(name)]


def figures_first(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with the columns for a terminal first, then the others, and the ends of the intervals last."""
    names = list(rows[0]) if rows else []
    main = narrow(names)
    ends = [name for name in names if _is_end(name)]
    order = [*main, *(name for name in names if name not in {*main, *ends}), *ends]
    return [{name: row[name] for name in order if name in row} for row in rows]


def _is_detail(column: str) -> bool:
    figure = table.of_column(column)
    return _is_end(column) or (figure is not None and figure.detail)


def _is_end(column: str) -> bool:
    return column.endswith(("_low", "_high"))


_ELSEWHERE = ("gpu_hours", "kwh", "parameters", "bytes", "device", "data", "code")
_CONDITIONS = ("n_samples", "n_real", "extractor", "image_size")


def _conditions(rows: list[dict[str, Any]]) -> str:
    """The conditions that all rows share, as a caption; empty where they differ."""
    if not rows or any(row.get(name) != rows[0].get(name) for row in rows for name in _CONDITIONS):
        return ""
    samples, real, extractor, size = (rows[0].get(name) for name in _CONDITIONS)
    return f"{samples} samples against {real} real images at {size} px, extractor {extractor}"
