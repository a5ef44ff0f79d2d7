"""Sends the record of a training to the tracker while it grows, without ever holding up or failing the training.

    training --pipe-- follower, a process of its own -- MLflow

A process, because MLflow's import and calls take seconds that a thread would take from the training, and because a
call that hangs in a frozen server can only be left behind together with its process. Its priority is low, as the
training keeps all cores busy and has threads that wait for each other. The pipe tells the follower what to follow and
how the training ended. Its end-of-file means that the training is dead: the follower ends at once.

The record on disk is the truth. What the tracker already has of it, the tracker is asked at the first contact, so no
second account is kept: after a lost reply, a kill between two calls or a run deleted in the UI it is asked again.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

from flows.running.imports import leave
from flows.settings import Settings
from flows.tracking import FIX, Owner, Sent, Status, Tracker, drawings
from flows.tracking import trainings as record
from flows.tracking.trainings import Mark, Row, Training
from genmodel.errors import FollowedError, GenmodelError, TrainingDivergedError
from genmodel.output.masking import masked
from genmodel.output.progress import say

_SLOWEST = 30.0  # seconds between two attempts while the tracker is away


class Follower:
    """Follows the record of a training, runs/<fingerprint>/, into its run in MLflow.

    with Follower(settings, training, folder, model): train(...)

    What is new is sent every `interval` seconds, and at the end what is left. A tracker that is away costs a warning
    and no more: Tracker.restore, or the same training again, sends what is missing. An error inside the block marks the
    run as failed and passes on. One process sends the record of a training to an MLflow; another one, on any machine,
    trains on without, and takes over when that one is gone.
    """

    patience = 60.0  # seconds that the end of a training may wait for its record to arrive
    hurry = 5.0  # the same when the training is stopped from outside: whoever stops it soon kills it
    nice = 10  # a tenth of a busy core: with less, the end of a training beside another one would not arrive in time

    def __init__(
        self, settings: Settings, training: Training, folder: Path, model: Path,
        interval: float = 5.0, system_interval: float = 10.0,
    ) -> None:  # fmt: skip
        """`folder` is the record, `model` where the finished model will lie; readings of CPU, memory and GPU are taken
        every `system_interval` seconds."""
        self._settings, self._training = settings, training
        self._folder, self._model = folder.absolute(), model.absolute()
        self._pace = {"interval": interval, "system_interval": system_interval, "nice": self.nice}

    def __enter__(self) -> "Follower":
        environment = {**os.environ, **self._settings.environment}
        command = [sys.executable, "-m", "flows.tracking.follower"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, env=environment)
        training, root = asdict(self._training), str(self._settings.root)
        told = {"root": root, "owner": asdict(Owner.here()), "training": training, "folder": str(self._folder)}
        self._tell({**told, **self._pace})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status, outcome = _verdict(error)
        pictures = drawings.pictures(self._folder if error else self._model)
        self._tell({"status": status, "outcome": outcome, "pictures": [str(path) for path in pictures]})
        arrived = False
        try:
            arrived = self.process.wait(self.hurry if status == "KILLED" else self.patience) == 0
        except subprocess.TimeoutExpired:
            say(f"warning: MLflow at {masked(self._settings.tracking_uri)} takes too long")
        finally:
            self.process.kill()
            with suppress(BrokenPipeError):
                self.process.communicate()
        if not arrived:
            later = "the model is safe, and its evaluation" if error is None else "the same command again"
            say(f"warning: the end of the training of {self._training.name} is not in MLflow: {later} sends the rest")

    def _tell(self, what: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it has died: __exit__ says so
            self.process.stdin.write(json.dumps(what) + "\n")
            self.process.stdin.flush()


class SystemReader:
    """Reads what MLflow's system metrics show: use of CPU, memory, disk, network and, where there is one, GPU."""

    def __init__(self, settings: Settings) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # never started: it would stop at the first failed call. Without a URI it opens a database in this folder.
        self._monitor = SystemMetricsMonitor(run_id="", tracking_uri=settings.tracking_uri)

    def read(self) -> dict[str, float]:
        self._monitor.collect_metrics()
        figures = self._monitor.aggregate_metrics()
        for part in self._monitor.monitors:
            part.clear_metrics()
        return {f"system/{name}": float(value) for name, value in figures.items()}


def _verdict(error: BaseException | None) -> tuple[Status, str]:
    if error is None:
        return "FINISHED", "trained"
    if not isinstance(error, Exception):  # Ctrl-C, SIGTERM: the same command resumes
        return "KILLED", "stopped"
    return "FAILED", "diverged" if isinstance(error, TrainingDivergedError) else "failed"


class Sender:
    """What the follower does in its process: sends what is new in the record, and then the end."""

    def __init__(self, tracker: Tracker, training: Training, folder: Path, system_interval: float) -> None:
        self._tracker, self._training, self._folder = tracker, training, folder
        self._sent: Sent | None = None  # what the tracker has; None before the first contact and after a failure
        self._mark = Mark()
        self._system: SystemReader | None = None
        self._system_interval, self._system_time, self._system_seen = system_interval, time.monotonic(), False
        self._started_ms = _now_ms()
        self._warned = False
        self._followed = False  # by another process, which sends the same record

    def follow(self, told: "queue.Queue[dict[str, Any]]", interval: float) -> bool:
        """Send what is new every `interval` seconds until the end is `told`, then that; whether all has arrived."""
        wait, end = interval, None
        while end is None:
            try:
                end = told.get(timeout=wait)
            except queue.Empty:
                wait = interval if self._attempt(self.send) or self._followed else min(2 * wait, _SLOWEST)
        return self._attempt(partial(self.end, **end)) or self._followed

    def _attempt(self, work: Callable[[], object]) -> bool:
        try:
            work()
        except FollowedError as error:
            if not self._followed:
                say(str(error))
            self._followed = True
            return False
        except (GenmodelError, OSError) as error:
            if not self._warned:
                said = str(error).removesuffix(f": {FIX}")
                say(f"warning: {said}; the training does not wait for it, its record follows later")
            self._warned, self._followed = True, False
            return False
        self._warned = self._followed = False
        return True

    def send(self, ending: bool = False) -> str:
        """Send all that is new; returns the run's id."""
        sent, self._sent = self._sent, None  # until all of it has arrived, nothing is certain
        if sent is None or not self._tracker.renew(sent.run_id):
            sent, self._mark = self._tracker.begin(self._training, self._started_ms), Mark()
        rows, mark = record.read_rows(self._folder / "metrics.jsonl", self._mark)
        sent = self._tracker.send(sent, rows, drawings.sample_grids(self._folder / "samples"))
        self._send_system(sent, ending)
        self._sent, self._mark = sent, mark
        return sent.run_id

    def _send_system(self, sent: Sent, ending: bool) -> None:
        self._system = self._system or SystemReader(self._tracker.settings)
        short = ending and not self._system_seen  # then one reading at the end
        if short or time.monotonic() - self._system_time >= self._system_interval:
            self._system_time = time.monotonic()
            now = Row(max(sent.images_seen, 0), _now_ms(), self._system.read())
            self._tracker.log_rows(sent.run_id, [now])
            self._system_seen = True

    def end(self, status: Status, outcome: str, pictures: Sequence[str] = ()) -> None:
        """Send what is left and close the run."""
        self._tracker.end(self.send(ending=True), status, outcome, [Path(path) for path in pictures])


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _listen(told: "queue.Queue[dict[str, Any]]") -> None:
    with open(0, closefd=False) as pipe:  # not sys.stdin: the interpreter's end would wait for its lock
        for line in pipe:
            told.put(json.loads(line))
    os._exit(1)  # even in the middle of a call to MLflow: the training is dead


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM):  # the whole group gets them; the training tells its end
        signal.signal(number, signal.SIG_IGN)
    told: queue.Queue[dict[str, Any]] = queue.Queue()
    threading.Thread(target=_listen, args=(told,), daemon=True).start()
    order = told.get()
    os.nice(order["nice"])
    tracker = Tracker(Settings.read(os.environ, Path(order["root"])), Owner(**order["owner"]))
    sender = Sender(tracker, Training.from_dict(order["training"]), Path(order["folder"]), order["system_interval"])
    return 0 if sender.follow(told, order["interval"]) else 1


if __name__ == "__main__":
    leave(main())
