"""What each stage and each run cost: runs/costs.jsonl, a line for each, only ever appended to.

A stage writes its line itself, however it is started (the flow, `dvc repro`, by hand) and however it ends, except by
kill -9. A run of the flow adds one of its own: the time by the clock, and what the cache has saved.
"""

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows.costs.energy import counter
from genmodel.files import durable

FILE = Path("runs/costs.jsonl")
RUN = "GENMODEL_RUN"  # the variable that tells a stage which run of the flow it belongs to


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a stage, or of several."""

    seconds: float = 0.0
    gpu_hours: float = 0.0
    kwh: float = 0.0  # of the GPUs; 0 where they do not report it

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(
            seconds=self.seconds + other.seconds,
            gpu_hours=self.gpu_hours + other.gpu_hours,
            kwh=self.kwh + other.kwh,
        )


def total(costs: Iterable[Cost]) -> Cost:
    return sum(costs, Cost())


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line: of a stage, or (`stage` empty) of a run of the flow as a whole."""

    time: datetime  # when it ended
    run: str  # empty for a stage that was started by hand
    stage: str = ""
    finished: bool = True
    cost: Cost
    saved: Cost = Cost()  # of a run: what the stages that it did not have to run cost the last time

    @classmethod
    def read(cls, text: str) -> "Line":
        """ValueError, KeyError or TypeError for what is not a line of the ledger."""
        told = json.loads(text)
        return cls(
            time=datetime.fromisoformat(told["time"]),
            run=str(told["run"]),
            stage=str(told.get("stage", "")),
            finished=bool(told.get("finished", True)),
            cost=_cost(told),
            saved=_cost(told.get("saved", {})),
        )


def _cost(told: Any) -> Cost:
    return Cost(**{name: float(told.get(name, 0.0)) for name in ("seconds", "gpu_hours", "kwh")})


def _told(cost: Cost) -> dict[str, float]:
    return {"seconds": round(cost.seconds, 1), "gpu_hours": round(cost.gpu_hours, 5), "kwh": round(cost.kwh, 5)}


def keep(root: Path, line: Line) -> None:
    """Append a line. One write, so that stages that end at the same time do not mix theirs."""
    told: dict[str, Any] = {"time": line.time.isoformat(timespec="seconds"), "run": line.run}
    if line.stage:
        told |= {"stage": line.stage, "finished": line.finished}
    told |= _told(line.cost)
    if not line.stage:
        told["saved"] = _told(line.saved)
    path = root / FILE
    with durable.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            os.write(handle, f"{json.dumps(told)}\n".encode())
        finally:
            os.close(handle)


def read(root: Path) -> list[Line]:
    """All lines, the oldest first. What cannot be read, as a line that a kill has cut off, is left out."""
    try:
        texts = (root / FILE).read_text(errors="replace").splitlines()
    except OSError:
        return []
    lines = []
    for text in texts:
        with contextlib.suppress(ValueError, RecursionError, KeyError, TypeError, AttributeError):
            lines.append(Line.read(text))
    return lines


def forget(root: Path, since: datetime) -> None:
    """Drop the lines from before; no stage may be at work."""
    texts = [text for text in (root / FILE).read_text(errors="replace").splitlines() if _is_since(text, since)]
    durable.write_text(root / FILE, "".join(f"{text}\n" for text in texts))


def _is_since(text: str, since: datetime) -> bool:
    try:
        return Line.read(text).time >= since
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return False


def last(lines: Iterable[Line]) -> dict[str, Cost]:
    """What each stage cost the last time that it ran to its end, by its name."""
    return {line.stage: line.cost for line in lines if line.stage and line.finished}


def month(lines: Iterable[Line], timezone: str, name: str = "") -> list[Line]:
    """The lines of a calendar month, "2026-11", by the clock of `timezone`; the current one without a name."""
    zone = ZoneInfo(timezone)
    wanted = name or f"{datetime.now(zone):%Y-%m}"
    return [line for line in lines if f"{line.time.astimezone(zone):%Y-%m}" == wanted]


def of_stages(lines: Iterable[Line]) -> Cost:
    """What was used: the lines of stages, as those of runs tell the same once more."""
    return total(line.cost for line in lines if line.stage)


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


@contextlib.contextmanager
def recorded(root: Path, stage: str) -> Iterator[None]:
    """Keep what the block costs, a stage's, whether it succeeds or not."""
    started, energy, finished = time.monotonic(), counter(), False
    before = energy()
    try:
        yield
        finished = True
    finally:
        seconds, after = time.monotonic() - started, energy()
        gpu = _used_gpu()
        drawn = after - before if gpu and before is not None and after is not None else 0.0
        cost = Cost(seconds=seconds, gpu_hours=seconds / 3600 if gpu else 0.0, kwh=drawn)
        run = os.environ.get(RUN, "")
        keep(root, Line(time=datetime.now(UTC), run=run, stage=stage, finished=finished, cost=cost))


def _used_gpu() -> bool:
    """Whether this process has used one: then nobody else could have had it meanwhile."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


def end_run(root: Path, run: str, seconds: float, stages: Iterable[str]) -> Line:
    """Keep the line of a run that took `seconds` and after which `stages` are up to date; returns it.

    Those that did not run are what the cache has saved.
    """
    lines = read(root)
    mine = [line for line in lines if run and line.run == run and line.stage]
    known, ran = last(lines), {line.stage for line in mine}
    used, saved = total(line.cost for line in mine), total(known[name] for name in stages if name in known.keys() - ran)
    cost = Cost(seconds=seconds, gpu_hours=used.gpu_hours, kwh=used.kwh)
    line = Line(time=datetime.now(UTC), run=run, cost=cost, saved=saved)
    keep(root, line)
    return line
