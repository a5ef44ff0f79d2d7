"""The project's runs in MLflow, one a training."""

import contextlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows import locks, record
from flows.record import DataVersion, Row, Training
from flows.settings import Settings
from flows.tracking.store import connect, explain
from genmodel import durable
from genmodel.errors import TrackingError
from genmodel.masking import masked

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

Status = Literal["FINISHED", "FAILED", "KILLED"]
_MAX_METRICS = 1000  # in one call; MLflow would cut a longer one within a row, and a row must arrive whole
_GRIDS = "genmodel.samples"  # tag: images seen of the last sample grid that has arrived whole


@dataclass(frozen=True)
class Sent:
    """What a run holds of its training's record."""

    run_id: str
    images_seen: int = -1  # of its last row
    samples: int = -1  # images seen of its last sample grid


class Tracker:
    """The project's runs in one MLflow, a database or a server.

    Nothing is asked before the first call. Locks are files in the project: they hold for processes of one machine.
    """

    def __init__(self, settings: Settings) -> None:
        settings.apply()  # MLflow reads its environment when it is imported, and at each call
        self.settings = settings
        self._connected: tuple[MlflowClient, str] | None = None  # the client and the experiment's id

    def begin(self, training: Training, started_ms: int) -> Sent:
        """Find or create the run of `training`, mark it as running, and say what it holds already.

        `started_ms`, unix milliseconds, is when the training began; the tracker may have been away then.
        """
        with self.talking() as (client, _):
            sent = self._sent(self._find_or_create(training, started_ms))
            client.update_run(sent.run_id, status="RUNNING")
            client.set_tag(sent.run_id, "genmodel.outcome", "training")
            return sent

    def restore(self, folder: Path, data: DataVersion, runs: Path) -> str:
        """The run of the finished model in `folder`, filled up with what this MLflow lacks of it; returns its id.

        For a training that has ended while the tracker was away, and for a model that came out of DVC's cache, trained
        on another machine or before another MLflow. `runs` holds the records of trainings, where they are kept.
        """
        training = Training.of_model(folder, data)
        run = self._find_or_create(training)
        if run.info.status != "FINISHED":
            rows = record.read_finished(folder, runs, training, run.info.start_time)
            sent = self.send(self._sent(run), rows, record.sample_grids(folder / "samples"))
            self.end(sent.run_id, "FINISHED", "trained", record.pictures(folder))
        return str(run.info.run_id)

    def send(self, sent: Sent, rows: Sequence[Row], grids: Mapping[int, Path]) -> Sent:
        """Add those of `rows` and `grids` that are later than what is `sent`; returns what the run holds then.

        A row arrives whole or not at all. Rows that are sent once more with their own times change nothing: MLflow
        drops exact duplicates. A grid counts as sent when all its files have arrived; sent again, they are replaced.
        """
        from mlflow.entities import RunTag

        rows = [row for row in rows if row.images_seen > sent.images_seen]
        grids = {images_seen: path for images_seen, path in grids.items() if images_seen > sent.samples}
        self.log_rows(sent.run_id, rows)
        if grids:
            with self.talking() as (client, _), tempfile.TemporaryDirectory() as drawn:
                record.write_logged_images(grids, sent.run_id, Path(drawn))
                client.log_artifacts(sent.run_id, drawn, "images")
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

    def set_outcome(self, fingerprint: str, outcome: str) -> None:
        """Tag a training's run with what became of its model, say: promoted, rejected, inconclusive, outranked."""
        with self.talking() as (client, _):
            client.set_tag(self.run(fingerprint).info.run_id, "genmodel.outcome", outcome)

    def log_evaluation(
        self, fingerprint: str, report: Mapping[str, Any], timing: Mapping[str, float], files: Sequence[Path] = ()
    ) -> None:
        """Add figures (metrics eval/*), their conditions (tags eval.*), report.json and `files` to a training's run.

        `timing` (metrics eval_cost/*): seconds, images per second. Equal values that the run holds are not sent again.
        """
        from mlflow.entities import Metric, RunTag

        with self.talking() as (client, _):
            run = self.run(fingerprint)
            figures = {f"eval/{k}": float(v) for k, v in report["figures"].items() if v is not None}
            figures |= {f"eval_cost/{k}": float(v) for k, v in timing.items()}
            new = {name: value for name, value in figures.items() if run.data.metrics.get(name) != value}
            metrics = [Metric(name, value, time.time_ns() // 1_000_000, step=0) for name, value in new.items()]
            tags = [RunTag(f"eval.{k}", v) for k, v in record.flatten(report["conditions"]).items()]
            client.log_batch(run.info.run_id, metrics=metrics, tags=tags, synchronous=True)
            client.log_dict(run.info.run_id, dict(report), "report.json")
        self.attach(run.info.run_id, files)

    def attach(self, run_id: str, files: Sequence[Path], folder: str | None = None) -> None:
        """Keep files with a run; those that it has by the same names are replaced."""
        with self.talking() as (client, _):
            for path in files:
                client.log_artifact(run_id, str(path), folder)

    @contextlib.contextmanager
    def talking(self) -> Iterator[tuple["MlflowClient", str]]:
        """The client and the experiment's id; MLflow's errors leave as TrackingError."""
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
        with self.locked("lock"):  # or two first users make the database, or the experiment, at the same time
            return connect(self.settings)

    @contextlib.contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Hold a lock of this project, also against other threads; not twice by the same one."""
        with locks.held(self.settings.root / f"mlflow.db.{what}"):
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
        """The one run of `training`; its parameters and its dataset are written each time, which changes nothing."""
        from mlflow.entities import Dataset, DatasetInput, InputTag, Param

        with self.talking() as (client, experiment_id), self.locked("lock"):
            run, *twins = self._find(training.fingerprint) or [
                client.create_run(experiment_id, started_ms, training.tags(self.settings.root))
            ]
            for twin in twins:  # a frozen server creates the run late, when it was asked for again already
                client.delete_run(twin.info.run_id)
            params = [Param(key, value) for key, value in training.parameters.items()]
            client.log_batch(run.info.run_id, params=params, synchronous=True)
            dataset = DatasetInput(Dataset(**training.data.described()), [InputTag("mlflow.data.context", "training")])
            client.log_inputs(run.info.run_id, [dataset])
            return run

    def _sent(self, run: "Run") -> Sent:
        return Sent(run.info.run_id, int(run.data.metrics.get("images_seen", -1)), int(run.data.tags.get(_GRIDS, -1)))
