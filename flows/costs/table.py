"""The costs of runs and months, as rows for people."""

from collections.abc import Iterable
from typing import Any
from zoneinfo import ZoneInfo

from flows.costs.ledger import Cost, Line, duration, total

HEADINGS = ("run", "took", "stages", "GPU hours", "kWh", "saved by the cache")


def rows(lines: Iterable[Line], timezone: str = "UTC") -> list[dict[str, Any]]:
    """A row a run, the oldest first, with the stages that it ran; then what was run by hand, without the flow."""
    known = list(lines)
    zone = ZoneInfo(timezone)
    found = []
    for run in (line for line in known if not line.stage):
        ran = [line for line in known if line.stage and line.run == run.run]
        found.append(_row(f"{run.time.astimezone(zone):%Y-%m-%d %H:%M}", run.cost, len(ran), run.saved))
    runs = {line.run for line in known if not line.stage}
    rest = [line for line in known if line.stage and (not line.run or line.run not in runs)]
    if rest:
        found.append(_row("by hand, or not finished", total(line.cost for line in rest), len(rest), Cost()))
    return found


def _row(name: str, cost: Cost, stages: int, saved: Cost) -> dict[str, Any]:
    more = f" and {saved.gpu_hours:.4g} GPU hours" if saved.gpu_hours else ""
    values = (
        name, duration(cost.seconds), stages, round(cost.gpu_hours, 4), round(cost.kwh, 4),
        duration(saved.seconds) + more,
    )  # fmt: skip
    return dict(zip(HEADINGS, values, strict=True))
