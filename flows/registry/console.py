"""What `python -m flows.registry` does and prints."""

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from flows.registry.approval import approve, refuse
from flows.registry.champion import Promotions
from flows.registry.history import over_time
from flows.registry.history.compare import lines
from flows.registry.lineage import restore_files, trace
from flows.registry.promotions import Ledger
from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.telling import board, notify
from flows.tracking import Tracker
from genmodel.output.printable import printable


def run(arguments: argparse.Namespace, settings: Settings) -> None:
    registry = Registry(Tracker(settings))
    promotions = Promotions(registry, Ledger(settings.root))
    if arguments.command == "approve":
        approved, former = approve(registry, promotions, arguments.version, arguments.by, arguments.reason)
        said = f"version {approved.number} is champion" + (f"; version {former} is previous" if former else "")
        print(said)
        notify.champion(settings, f"{said}: approved by {arguments.by}: {arguments.reason}")
    elif arguments.command == "refuse":
        refused = refuse(registry, promotions, arguments.version, arguments.by, arguments.reason)
        print(f"version {refused.number} is refused; `approve {refused.number}` undoes it while the champion stays")
    elif arguments.command == "rollback":
        champion, gone = promotions.roll_back(arguments.reason)
        print(f"version {champion.number} is champion again" + (f"; version {gone.number} is previous" if gone else ""))
    elif arguments.command == "retire":
        retired = promotions.retire(arguments.reason)
        print(f"version {retired.number} is no longer champion; the next sound model of a run starts a new line")
    elif arguments.command == "verify":
        print(_verified(registry, arguments.version))
    elif arguments.command == "files":
        written = restore_files(registry, arguments.version, arguments.folder)
        print(printable(f"{arguments.folder}: {', '.join(written)}"))
    elif arguments.command == "history":
        _show(promotions.history(), arguments.all)
    elif arguments.command == "compare":
        told = lines(registry, promotions.history(), settings.root, arguments.since, arguments.until)
        print("\n".join(map(printable, told)))
    else:
        print("\n".join(printable(line) for line in trace(registry, settings.root, arguments.version).lines()))
    if arguments.command in ("approve", "refuse", "rollback", "retire", "history"):
        over_time.write(promotions.history(), settings.root)
    if arguments.command in ("rollback", "retire", "approve", "refuse"):
        board.crowned(settings.root, registry.version(CHAMPION))


def _verified(registry: Registry, number_or_alias: str) -> str:
    version = registry.find(number_or_alias)
    if registry.verify(version):
        return f"version {version.number} is whole: its package is the one that was registered"
    return f"version {version.number}: its weights are whole; it was registered before packages had digests"


def _show(events: Iterable[Mapping[str, Any]], every: bool) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(title="Champions, the oldest first", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    for name in ("since", "what", "version", "model", "champion", "why"):
        table.add_column(name, overflow="fold", no_wrap=name == "since")
    for event in events:
        if every or event["after"]["champion"] != event["before"] or _asks(event):
            table.add_row(*row(event))
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False)
    if table.row_count:
        console.print(table, highlight=False)
    else:
        console.print("There has been no champion yet: python -m flows.retrain, or dvc repro")


def _asks(event: Mapping[str, Any]) -> bool:
    """Whether it asks for a person's word, or is one."""
    return "by" in event or event.get("decision", {}).get("outcome") == "pending"


def row(event: Mapping[str, Any]) -> list[str]:
    """When, what, the version it was about and its model, the champion after it, and why."""
    champion = event["after"]["champion"]
    decision = event.get("decision")
    told = [
        event["time"][:19].replace("T", " "),
        over_time.what(event),
        event["version"],
        decision["candidate"]["name"] if decision else "",
        champion["version"] if champion else "",
        " ".join(decision["reasons"]) if decision else event["reason"],
    ]
    return [printable(text) for text in told]
