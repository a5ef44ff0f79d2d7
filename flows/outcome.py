"""What a run of the line ends with: leaderboard, pictures, decision, for the terminal and for Prefect's UI."""

import csv
import json
import sys
from pathlib import Path
from typing import Any

from flows.settings import Settings
from genmodel.errors import GenmodelError


def leaderboard(root: Path) -> list[dict[str, Any]]:
    """The rows of leaderboard.csv, best first; numbers as numbers."""
    path = root / "leaderboard.csv"
    if not path.exists():
        raise GenmodelError(f"{path} is missing, though nothing is left to run: does dvc.yaml still name it?")
    with path.open(newline="") as file:
        return [{name: _number(text) for name, text in row.items()} for row in csv.DictReader(file)]


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


def decision(root: Path) -> str | None:
    """The gate's word in one line: "promote: ..."."""
    path = root / "decision.json"
    if not path.exists():
        return None
    told = json.loads(path.read_text())
    return f"{told['outcome']}: {' '.join(told['reasons'])}"


def markdown(settings: Settings) -> str:
    """Links to the pictures, the decision, and MLflow where it is a server."""
    lines = [f"- {path.parts[1]}: [{path}]({(settings.root / path).as_uri()})" for path in pictures(settings.root)]
    lines += [f"- {told}" for told in [decision(settings.root)] if told]
    lines += [f"- MLflow: <{settings.tracking_uri}>"] if settings.served else []
    return "\n".join(lines) or "No samples yet."


def show(settings: Settings) -> None:
    """Print it all, with the command that opens the MLflow UI."""
    from rich.console import Console
    from rich.table import Table

    rows = leaderboard(settings.root)
    table = Table()
    for name, value in (rows[0] if rows else {}).items():
        table.add_column(name, justify="left" if isinstance(value, str) else "right")
    for row in rows:
        table.add_row(*(f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()))
    console = Console(width=None if sys.stdout.isatty() else 160)  # a log has room for all columns
    console.print("\nLeaderboard, best first")
    console.print(table)
    for path in pictures(settings.root):
        console.print(f"samples  {path}", highlight=False)
    console.print(f"champion {decision(settings.root) or 'undecided'}", highlight=False)
    console.print("to see every run side by side: make ui", highlight=False)
