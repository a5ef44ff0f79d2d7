"""The champion over time: its figure by day with the interval, and every decision, as a page and as rows.

The figure is the one of the decision of that day, made under its conditions: a champion is judged anew whenever a
candidate is compared with it.
"""

import csv
import importlib.resources
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.registry.history import timeline
from genmodel.files import durable
from genmodel.output.printable import printable

PAGE = Path("champion.html")
_COLUMNS = ("day", "champion", "model", "figure", "value", "low", "high")
Event = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Day:
    """The last figure of a champion on one day, UTC."""

    time: datetime  # of the decision
    version: str
    model: str
    figure: str
    judged_by: str
    value: float
    low: float
    high: float

    def row(self) -> dict[str, Any]:
        """For a table; numbers as numbers."""
        told = {"day": f"{self.time:%Y-%m-%d}", "champion": self.version, "model": printable(self.model)}
        return {**told, "figure": self.figure, "value": self.value, "low": self.low, "high": self.high}


def write(history: Sequence[Event], root: Path) -> None:
    """Write the page, and the days as champion.csv, which Prefect's UI shows."""
    write_page(history, root / PAGE)
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS)
    table.writeheader()
    table.writerows(day.row() for day in days(history))
    durable.write_text((root / PAGE).with_suffix(".csv"), text.getvalue())


def days(history: Sequence[Event]) -> list[Day]:
    """The champion's figure by day, the oldest first; a day without a decision has none."""
    found: dict[str, Day] = {}
    for event in history:
        champion, decision = event["after"]["champion"], event.get("decision") or {}
        briefs = [decision.get("candidate"), decision.get("champion")]
        brief = next((each for each in briefs if each and champion and each["weights"] == champion["weights"]), None)
        if brief is None or not isinstance(brief.get("value"), int | float):
            continue
        low, high = brief.get("interval") or (brief["value"], brief["value"])
        day = Day(
            time=datetime.fromisoformat(event["time"]),
            version=champion["version"],
            model=brief["name"],
            figure=decision["figure"],
            judged_by=decision.get("judged_by", ""),
            value=brief["value"],
            low=low,
            high=high,
        )
        found[f"{day.time:%Y-%m-%d}"] = day
    return list(found.values())


def marks(history: Sequence[Event], figure: str, judged_by: str) -> list[timeline.Mark]:
    """The decisions to draw: candidates at their own value, changes without a candidate at none."""
    drawn = []
    for event in history:
        decision = event.get("decision") or {}
        alike = (decision.get("figure"), decision.get("judged_by", "")) == (figure, judged_by)
        value = decision["candidate"].get("value") if alike else None
        drawn.append(
            timeline.Mark(
                time=datetime.fromisoformat(event["time"]),
                what=what(event),
                version=event["version"],
                value=value if isinstance(value, int | float) else None,
                moves=event["after"]["champion"] != event["before"],
            )
        )
    return drawn


def what(event: Event) -> str:
    """The kind of a decision, in a word: promote, reject, inconclusive, pending, approval, refusal, rollback, ..."""
    decision = event.get("decision")
    return printable(decision["outcome"] if decision and event["kind"] == "promotion" else event["kind"])


def write_page(history: Sequence[Event], out: Path) -> None:
    """Write the page; the same history gives the same bytes."""
    from jinja2 import Environment

    known = days(history)
    latest = known[-1] if known else None
    alike = [day for day in known if latest and (day.figure, day.judged_by) == (latest.figure, latest.judged_by)]
    chart = ""
    if latest:
        points = [timeline.Point(day.time, day.version, day.value, day.low, day.high) for day in alike]
        chart = timeline.draw(points, marks(history, latest.figure, latest.judged_by), latest.figure)
    template = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        importlib.resources.files(__package__).joinpath("champion.html.j2").read_text("utf-8")
    )
    page = template.render(
        days=[day.row() for day in reversed(known)],
        latest=latest,
        chart=chart,
        left_out=len(known) - len(alike),
        decisions=[_decision(event) for event in reversed(history)],
    )
    durable.write_text(out, page)


def _decision(event: Event) -> dict[str, Any]:
    decision, champion = event.get("decision"), event["after"]["champion"]
    candidate = decision["candidate"] if decision else {}
    value, interval = candidate.get("value"), candidate.get("interval")
    return {
        "time": event["time"][:16].replace("T", " "),
        "what": what(event),
        "moves": event["after"]["champion"] != event["before"],
        "version": event["version"],
        "model": printable(candidate.get("name", "")),
        "value": f"{value:g}" if isinstance(value, int | float) else "",
        "interval": f"{interval[0]:g} to {interval[1]:g}" if interval else "",
        "champion": champion["version"] if champion else "nobody",
        "why": printable(" ".join(decision["reasons"]) if decision else event.get("reason", "")),
    }
