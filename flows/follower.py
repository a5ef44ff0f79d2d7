"""Sends the record of a training to the tracker while it grows, without ever holding up or failing the training.

The truth is the record on disk. What the tracker has of it the tracker itself tells at the first contact, so there
is no second account to keep: a reply that was lost, a kill between two calls or a run deleted in the UI all end in
asking again.
"""

import logging
import threading
import time
from pathlib import Path
from types import TracebackType

from flows import record
from flows.record import Mark, Row, Training
from flows.tracking import Sent, SystemReader, Tracker
from genmodel.errors import GenmodelError, TrackingError, TrainingDivergedError

_log = logging.getLogger(__name__)
_SLOWEST = 30.0  # seconds between two attempts while the tracker is away


class Follower:
    """Follows runs/<fingerprint>/ (metrics.jsonl, samples/) into the training's run.

    with Follower(tracker, training, folder): train(...)

    starts a thread that sends what is new every `interval` seconds, and at the end sends what is left. A tracker
    that is away gets one warning and everything later; only when it is still away at the end of a successful
    training a TrackingError is raised. An error inside the block marks the run as failed and passes on.
    """

    def __init__(
        self, tracker: Tracker, training: Training, folder: Path, interval: float = 2.0, system_interval: float = 10.0
    ) -> None:
        """`folder` is the record; `interval` and `system_interval` (of readings of CPU, memory, GPU) are seconds."""
        self._tracker, self._training, self._folder = tracker, training, folder
        self._interval, self._system_interval = interval, system_interval
        self._sent: Sent | None = None  # what the tracker has; None before the first contact and after a failure
        self._mark = Mark()
        self._system: SystemReader | None = None
        self._system_time, self._system_seen = time.monotonic(), False
        self._started_ms = _now_ms()
        self._warned = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="follower", daemon=True)

    def __enter__(self) -> "Follower":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        if error is None:
            self._finish()
        else:
            self._give_up(error)

    def _follow(self) -> None:
        wait = self._interval
        while not self._stopping.wait(wait):
            try:
                self._send(with_system=True)
                wait, self._warned = self._interval, False
            except (GenmodelError, OSError) as error:
                wait = min(2 * wait, _SLOWEST)
                if not self._warned:
                    _log.warning("%s; the training goes on, its record follows later", error)
                self._warned = True

    def _send(self, with_system: bool = False) -> str:
        """Send all that is new; returns the run's id."""
        sent, self._sent = self._sent, None  # until all of it has arrived, nothing is certain
        if sent is None:
            sent, self._mark = self._tracker.begin(self._training, self._started_ms), Mark()
        rows, mark = record.read_rows(self._folder / "metrics.jsonl", self._mark)
        fresh = [row for row in rows if row.images_seen > sent.images_seen]
        sent = self._tracker.send(sent, fresh, record.sample_grids(self._folder / "samples"))
        if with_system:
            self._send_system(sent)
        self._sent, self._mark = sent, mark
        return sent.run_id

    def _send_system(self, sent: Sent) -> None:
        self._system = self._system or SystemReader(self._tracker.settings)
        short = self._stopping.is_set() and not self._system_seen  # then one reading at the end
        if short or time.monotonic() - self._system_time >= self._system_interval:
            self._system_time = time.monotonic()
            now = Row(max(sent.images_seen, 0), _now_ms(), self._system.read())
            self._tracker.log_rows(sent.run_id, [now])
            self._system_seen = True

    def _finish(self) -> None:
        try:
            self._tracker.end(self._send(with_system=True), "FINISHED", outcome="trained")
        except TrackingError as error:
            mend = "start the server" if self._tracker.settings.served else "mend that"
            raise TrackingError(
                f"{error}: the model is trained and safe; {mend} and run the same command again"
            ) from error

    def _give_up(self, error: BaseException) -> None:
        interrupted = not isinstance(error, Exception)  # Ctrl-C, SIGTERM: the same command resumes
        if interrupted and self._warned:  # whoever stops us is in a hurry, and the tracker is away
            return
        outcome = "diverged" if isinstance(error, TrainingDivergedError) else "stopped" if interrupted else "failed"
        try:
            self._tracker.end(self._send(), "KILLED" if interrupted else "FAILED", outcome)
        except (GenmodelError, OSError) as trouble:  # the training's own error is the one to show
            _log.warning("%s; the end of this training is not in MLflow", trouble)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
