"""Budgets: a run that would use more GPU hours or energy than params.yaml allows stops before a training starts.

    budget:
      run: {max_gpu_hours: 8, max_kwh: 5}
      month: {max_gpu_hours: 100}

What a stage will use is what it used the last time, in this folder; of a stage that has never run it is not known, and
counts as nothing until it has.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from flows.costs import ledger
from flows.costs.ledger import Cost, Line
from flows.settings import Settings
from genmodel.errors import BudgetError
from genmodel.params import read_yaml
from genmodel.settings.config import Range
from genmodel.settings.reading import build

PARAMS = Path("params.yaml")
_NAMES = {"max_gpu_hours": ("gpu_hours", "GPU hours"), "max_kwh": ("kwh", "kWh")}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """None: no limit."""

    max_gpu_hours: Annotated[float, Range(0)] | None = None
    max_kwh: Annotated[float, Range(0)] | None = None


@dataclass(frozen=True, kw_only=True)
class Budget:
    run: Limits = field(default_factory=Limits)
    month: Limits = field(default_factory=Limits)  # a calendar month, by the clock of GENMODEL_TIMEZONE

    @classmethod
    def read(cls, root: Path) -> "Budget":
        """The part `budget` of params.yaml; ConfigError for what is wrong in it."""
        path = root / PARAMS
        return build(cls, read_yaml(path).get("budget") or {}, f"{PARAMS}: budget") if path.exists() else cls()

    @property
    def is_set(self) -> bool:
        return self != Budget()


def check(settings: Settings, stages: Iterable[str], run: str = "") -> None:
    """BudgetError if `stages`, after what `run` and this month have used, would use more than the budget allows.

    `stages` are those that may use a GPU; of the others nothing is limited.
    """
    budget = Budget.read(settings.root)
    if not budget.is_set:
        return
    lines = ledger.read(settings.root)
    known = ledger.last(lines)
    planned = {name: known.get(name, Cost()) for name in stages}
    used = {
        "run": ledger.of_stages(line for line in lines if run and line.run == run),
        "month": ledger.of_stages(ledger.month(lines, settings.timezone)),
    }
    for span, limits in (("run", budget.run), ("month", budget.month)):
        for setting, (what, words) in _NAMES.items():
            allowed = getattr(limits, setting)
            before = getattr(used[span], what)
            needed = {name: value for name, cost in planned.items() if (value := getattr(cost, what))}
            may_use = needed or planned.keys() - known.keys()
            if allowed is not None and may_use and before + sum(needed.values()) > allowed:
                raise BudgetError(_told(span, setting, words, before, needed, allowed))


def _told(span: str, setting: str, words: str, before: float, needed: dict[str, float], allowed: float) -> str:
    most = sorted(needed, key=lambda name: -needed[name])
    shown = ", ".join(f"{name} {needed[name]:.4g}" for name in most[:3]) + (", ..." if len(most) > 3 else "")
    plan = f"{sum(needed.values()):.4g} {words} as last time ({shown})" if needed else f"an unknown number of {words}"
    return (
        f"not started: {'this run' if span == 'run' else 'this month'} has used {before:.4g} {words} and would need "
        f"{plan}, more than the {allowed:.4g} of {PARAMS}: budget.{span}.{setting}; raise it"
        + (" or wait for the next month" if span == "month" else " or run fewer models")
        + " (`python -m flows.costs` lists what was used)"
    )


def line(settings: Settings, lines: list[Line]) -> str:
    """What this month has used, and of how much; one line."""
    used = ledger.of_stages(ledger.month(lines, settings.timezone))
    limits = Budget.read(settings.root).month
    parts = []
    for setting, (what, words) in _NAMES.items():
        allowed = getattr(limits, setting)
        parts.append(f"{getattr(used, what):.4g}{'' if allowed is None else f' of {allowed:.4g}'} {words}")
    return f"this month: {ledger.duration(used.seconds)} of stages, {', '.join(parts)}"
