"""The project's runs in MLflow, one for each training."""

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from flows.settings import Settings
from flows.tracking import drawings
from flows.tracking import trainings as record
from flows.tracking.lease import LEASE, OWNER, Lease, Owner, is_abandoned, last_sign
from flows.tracking.store import connect, database_file, explain, load_client
from flows.tracking.trainings import DataVersion, Row, Training
from flows.versioning import locks
from genmodel.errors import FollowedError, TrackingError
from genmodel.evaluation.report import Report, Timing
from genmodel.files import durable
from genmodel.output.masking import masked
from genmodel.output.printable import printable
from genmodel.output.progress import say

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]
_MAX_METRICS = 1000  # in one call; MLflow would cut a longer one within a row, and a row must arrive whole
_SETTLED = 1.0  # seconds after which another machine that also found a run free has written its own name
JUDGED = "genmodel.judged"  # tag: when the figures were made, UTC
_GRIDS = "genmodel.samples"  # tag: images seen of the last sample grid that has arrived whole


@dataclass(frozen=True)
class Sent:
    """What a run holds of its training's record."""

    run_id: str
    images_seen: int = -1  # of its last row
    samples: int = -1  # images seen of its last sample grid


class Tracker:
    """The project's runs in one MLflow, a database or a server.

    It connects at the first call. Locks are files: they hold between processes of one machine. Nobody else sends to a
    run that `owner`, by default this process, follows (flows/tracking/lease.py).
    """

    def __init__(self, settings: Settings, owner: Owner | None = None) -> None:
        settings.apply()  # MLflow reads its environment when it is imported, and at each call
        self.settings = settings
        self._lease = Lease(owner or Owner.here())
        self._connected: tuple[MlflowClient, str] | None = None  # the client and the experiment's id

    def begin(self, training: Training, started_ms: int) -> Sent:
        """Find or create the run of `training`, mark it as running, and say what it holds already.

        `started_ms`, unix milliseconds, is when the training began; the tracker may have been unreachable then.
        FollowedError if another process follows it. The runs that dead processes left running are closed.
        """
        with self.talking() as (client, _):
            run = self._claim(self._find_or_create(training, started_ms), training)
            self._describe(run, training)
            client.update_run(run.info.run_id, status="RUNNING")
            client.set_tag(run.info.run_id, "genmodel.outcome", "training")
            self.close_abandoned()
            return self._sent(run)

    def renew(self, run_id: str) -> bool:
        """Renew the lease of a run; False if it is no longer ours: then begin again."""
        with self.talking() as (client, _):
            run = client.get_run(run_id)
            if Owner.read(run.data.tags) != self._lease.owner:
                return False
            client.set_tag(run_id, LEASE, self._lease.tags()[LEASE])
            if run.info.status != "RUNNING":  # closed by someone whose clock is wrong
                client.update_run(run_id, status="RUNNING")
            return True

    def close_abandoned(self) -> None:
        """Close the runs of trainings that were killed together with what followed them, as of their last sign."""
        for run_id in self.abandoned():
            with self.talking() as (client, _), self.locked("lock"):  # its training may be starting again
                run = client.get_run(run_id)
                if run.info.status == "RUNNING" and is_abandoned(run.data.tags):
                    client.set_tag(run.info.run_id, "genmodel.outcome", "stopped")
                    client.set_terminated(run.info.run_id, "KILLED", last_sign(run.data.tags))
                    self._release(run)

    def abandoned(self) -> list[str]:
        """The ids of the runs that say RUNNING and have no process."""
        with self.talking() as (client, experiment_id):
            running = client.search_runs([experiment_id], "attributes.status = 'RUNNING'")
            return [run.info.run_id for run in running if is_abandoned(run.data.tags)]

    def restore(self, folder: Path, data: DataVersion, runs: Path) -> str:
        """The run of the finished model in `folder`, completed with what this MLflow lacks; returns its id.

        For a training that ended while the tracker was unreachable, and for a model from DVC's cache that was trained
        on another machine or with another MLflow. `runs` holds the records of trainings, if they are kept. A run that
        another process follows is left to it. The runs that dead processes left running are closed.
        """
        training = Training.of_model(folder, data)
        run = self._find_or_create(training)
        self._describe(run, training)
        if run.info.status != "FINISHED":
            try:
                run = self._claim(run, training, watched=False)
            except FollowedError as error:
                say(str(error))
                return str(self.run(training.fingerprint).info.run_id)
            rows = record.read_finished(folder, runs, training, run.info.start_time)
            sent = self.send(self._sent(run), rows, drawings.sample_grids(folder / "samples"))
            self.end(sent.run_id, "FINISHED", "trained", drawings.pictures(folder))
        self.close_abandoned()
        return str(run.info.run_id)

    def send(self, sent: Sent, rows: Sequence[Row], grids: Mapping[int, Path]) -> Sent:
        """Add the `rows` and `grids` that are later than what is `sent`; returns what the run holds then.

        A row arrives whole or not at all. Rows that are sent again with their own times change nothing: MLflow
        drops exact duplicates. A grid counts as sent when all its files have arrived; sent again, they are replaced.
        """
        from mlflow.entities import RunTag

        rows = [row for row in rows if row.images_seen > sent.images_seen]
        grids = {images_seen: path for images_seen, path in grids.items() if images_seen > sent.samples}
        self.log_rows(sent.run_id, rows)
        if grids:
            with self.talking() as (client, _), tempfile.TemporaryDirectory() as drawn:
                drawings.write_logged_images(grids, sent.run_id, Path(drawn))
                client.log_artifacts(sent.run_id, drawn, drawings.IMAGES)
                tags = [RunTag("mlflow.loggedImages", "True"), RunTag(_GRIDS, str(max(grids)))]
                client.log_batch(sent.run_id, tags=tags, synchronous=True)
        last = max([sent.images_seen, *(row.images_seen for row in rows)])
        return Sent(sent.run_id, last, max([sent.samples, *grids]))

    def log_rows(self, run_id: str, rows: Sequence[Row]) -> None:
        """Add rows to a run, of its record or of other figures of the moment."""
        from mlflow.entities import Metric

        with self.talking() as (client, _):
            for batch in record.batches(rows, _MAX_METRICS):
                metrics = [Metric(k, v, row.time_ms, row.images_seen) for row in batch for k, v in row.metrics.items()]
                client.log_batch(run_id, metrics=metrics, synchronous=True)

    def end(self, run_id: str, status: Status, outcome: str, pictures: Sequence[Path] = ()) -> None:
        """Close a run with `pictures` of the whole training. `outcome`, a tag: trained, failed, diverged, stopped."""
        self.attach(run_id, pictures)  # before the status: a run that is FINISHED holds all
        with self.talking() as (client, _):
            client.set_tag(run_id, "genmodel.outcome", outcome)
            client.set_terminated(run_id, status)
            self._release(client.get_run(run_id))

    def tag(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        from mlflow.entities import RunTag

        with self.talking() as (client, _):
            client.log_batch(run_id, tags=[RunTag(*each) for each in tags.items()], synchronous=True)

    def log_evaluation(self, report: Report, timing: Timing, files: Sequence[Path] = ()) -> None:
        """Add a report to the run of its training: figures (metrics eval/*), conditions (tags eval.*), report.json.

        `timing` becomes metrics eval_cost/*; `files` are kept with the run. Values that the run has are not sent again.
        """
        from mlflow.entities import Metric, RunTag

        with self.talking() as (client, _):
            run = self.run(report.fingerprint)
            figures = {f"eval/{k}": v for k, v in report.figures.items() if v is not None}
            figures |= {f"eval_cost/{k}": v for k, v in timing.as_dict().items()}
            new = {name: value for name, value in figures.items() if run.data.metrics.get(name) != value}
            metrics = [Metric(name, value, time.time_ns() // 1_000_000, step=0) for name, value in new.items()]
            tags = [RunTag(f"eval.{k}", v) for k, v in record.flatten(report.conditions.as_dict()).items()]
            tags.append(RunTag(JUDGED, datetime.now(UTC).isoformat(timespec="seconds")))
            client.log_batch(run.info.run_id, metrics=metrics, tags=tags, synchronous=True)
            client.log_dict(run.info.run_id, report.as_dict(), "report.json")
        self.attach(run.info.run_id, files)

    def attach(self, run_id: str, files: Sequence[Path], folder: str | None = None) -> None:
        """Keep files with a run; its files of the same names are replaced."""
        with self.talking() as (client, _):
            for path in files:
                client.log_artifact(run_id, str(path), folder)

    @contextlib.contextmanager
    def talking(self) -> Iterator[tuple["MlflowClient", str]]:
        """The client and the experiment's id; MLflow's errors become TrackingError."""
        if self._connected is None:
            load_client()
        import requests
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            with durable.storage_errors(self.settings.artifacts or self.settings.root):
                self._connected = self._connected or self._connect()
                yield self._connected
        except (MlflowException, requests.RequestException, SQLAlchemyError, sqlite3.Error) as error:
            raise TrackingError(explain(error, self.settings)) from error

    def _connect(self) -> tuple["MlflowClient", str]:
        with self.locked("lock"):  # else two first users could make the database, or the experiment, at the same time
            return connect(self.settings)

    @contextlib.contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Hold a lock of this project, also against other threads; a thread must not take it twice."""
        database = database_file(self.settings) or self.settings.root / "mlflow.db"
        with locks.held(database.with_name(f"{database.name}.{what}")):
            yield

    def _find(self, fingerprint: str) -> "list[Run]":
        """The runs of a training, the one that holds most of its record first."""
        with self.talking() as (client, experiment_id):
            query, order = f"tags.`genmodel.fingerprint` = '{fingerprint}'", ["metrics.images_seen DESC", "start_time"]
            return list(client.search_runs([experiment_id], query, order_by=order))

    def run(self, fingerprint: str) -> "Run":
        """The run of a training; TrackingError if there is none."""
        if found := self._find(fingerprint):
            return found[0]
        raise TrackingError(
            f"MLflow at {masked(self.settings.tracking_uri)} has no run of the training {fingerprint[:12]}...: "
            "restore it from the model's folder first"
        )

    def _find_or_create(self, training: Training, started_ms: int | None = None) -> "Run":
        """The one run of `training`: the one that is followed, or that holds most of its record."""
        with self.talking() as (client, experiment_id), self.locked("lock"):
            tags = training.tags(self.settings.root) | self._lease.tags()
            found = self._find(training.fingerprint) or [client.create_run(experiment_id, started_ms, tags)]
            run, *twins = sorted(found, key=lambda run: self._holder(run) is None)
            for twin in twins:  # a frozen server creates the run late, when it was asked for again already
                if self._holder(twin) is None:
                    client.delete_run(twin.info.run_id)
            return run

    def _describe(self, run: "Run", training: Training) -> None:
        """Write the parameters and the dataset of `training`; once more changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        with self.talking() as (client, _):
            params = [Param(key, value) for key, value in training.parameters.items()]
            client.log_batch(run.info.run_id, params=params, synchronous=True)
            dataset = DatasetInput(Dataset(**training.data.described()), [InputTag("mlflow.data.context", "training")])
            client.log_inputs(run.info.run_id, [dataset])

    def _claim(self, run: "Run", training: Training, watched: bool = True) -> "Run":
        """Take the lease of a run and read it again; FollowedError where another process has it."""
        from mlflow.entities import RunTag

        run_id = run.info.run_id
        with self.talking() as (client, _):
            with self.locked("lock"):
                _refuse(self._holder(client.get_run(run_id), watched), training)
                tags = [RunTag(key, value) for key, value in self._lease.tags().items()]
                client.log_batch(run_id, tags=tags, synchronous=True)
            if database_file(self.settings) is None:  # other machines, which no lock of ours keeps out
                time.sleep(_SETTLED)
                _refuse(self._holder(client.get_run(run_id), watched), training)
                for twin in self._find(training.fingerprint):
                    first = (twin.info.start_time, twin.info.run_id) < (run.info.start_time, run_id)
                    if first and (holder := self._holder(twin, watched)):
                        client.delete_run(run_id)
                        _refuse(holder, training)
            return client.get_run(run_id)

    def _holder(self, run: "Run", watched: bool = True) -> Owner | None:
        return self._lease.holder(run.info.run_id, run.data.tags, watched)

    def _release(self, run: "Run") -> None:
        with self.talking() as (client, _):
            for key in {OWNER, LEASE} & set(run.data.tags):
                client.delete_tag(run.info.run_id, key)

    def _sent(self, run: "Run") -> Sent:
        return Sent(run.info.run_id, int(run.data.metrics.get("images_seen", -1)), int(run.data.tags.get(_GRIDS, -1)))


def _refuse(holder: Owner | None, training: Training) -> None:
    if holder is not None:
        raise FollowedError(
            f"the training of {printable(training.name)} has been followed by {printable(holder.host)} since "
            f"{printable(holder.since)}: its record is not sent twice"
        )
