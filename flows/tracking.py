"""MLflow: the connection, the runs, and the package of a model. The only file that imports mlflow.

Each training is one run, found by the tag genmodel.fingerprint; its steps are images seen. Every trouble with MLflow
becomes a TrackingError of one line. The registry's rules are in flows/registry.py.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows import record
from flows.record import DataVersion, Row, Training
from flows.settings import Settings
from genmodel import durable
from genmodel.errors import TrackingError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.pyfunc import PyFuncModel
    from torch import nn

Status = Literal["FINISHED", "FAILED", "KILLED"]
_MAX_METRICS = 1000  # in one call; MLflow would cut a longer one within a row, and a row must arrive whole
_GRIDS = "genmodel.samples"  # tag: images seen of the last sample grid that has arrived whole
MEND = "start it, or unset MLFLOW_TRACKING_URI, and run the same command again"
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # or the UI asks what this experiment is


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
            with self.talking() as (client, _), tempfile.TemporaryDirectory() as scratch:
                record.write_logged_images(grids, sent.run_id, Path(scratch))
                client.log_artifacts(sent.run_id, scratch, "images")
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
        except (MlflowException, requests.RequestException, SQLAlchemyError) as error:
            uri = self.settings.tracking_uri
            cause = error.__cause__ or error.__context__ or error
            if isinstance(cause, requests.ConnectionError | requests.Timeout):
                raise TrackingError(f"cannot reach the tracking server at {uri}: {MEND}") from error
            raise TrackingError(f"MLflow at {uri} says: {str(error).splitlines()[0]}") from error

    def _connect(self) -> tuple["MlflowClient", str]:
        from mlflow import MlflowClient

        logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else it tells of each attempt
        settings = self.settings
        with self.locked("lock"):  # or two first users make the database, or the experiment, at the same time
            if settings.tracking_uri.startswith("sqlite:///"):
                make_database(Path(settings.tracking_uri.removeprefix("sqlite:///")))
            client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
            if experiment := client.get_experiment_by_name(settings.experiment):
                return client, experiment.experiment_id
            location = settings.artifacts.as_uri() if settings.artifacts else None
            return client, client.create_experiment(settings.experiment, location, _EXPERIMENT_TAGS)

    @contextlib.contextmanager
    def locked(self, what: str) -> Iterator[None]:
        """Hold a lock of this project, also against other threads; not twice by the same one."""
        with (self.settings.root / f"mlflow.db.{what}").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
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
            f"MLflow at {self.settings.tracking_uri} has no run of the training {fingerprint[:12]}...: "
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


class SystemReader:
    """Reads what MLflow's system metrics show: use of CPU, memory, disk, network and, where there is one, GPU."""

    def __init__(self, settings: Settings) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # never started: it would stop at the first silence. Without a URI it opens a database where we stand.
        self._monitor = SystemMetricsMonitor(run_id="", tracking_uri=settings.tracking_uri)

    def read(self) -> dict[str, float]:
        self._monitor.collect_metrics()
        figures = self._monitor.aggregate_metrics()
        for part in self._monitor.monitors:
            part.clear_metrics()
        return {f"system/{name}": float(value) for name, value in figures.items()}


def make_database(path: Path) -> None:
    """Make MLflow's sqlite file, whole or not at all.

    MLflow would build it in place by some fifty migrations, a second on a disk for each ten of them, and one that is
    killed on the way is refused ever after.
    """
    if path.exists() and path.stat().st_size:
        return
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as scratch:
        draft = Path(scratch) / "mlflow.db"
        MlflowClient(f"sqlite:///{draft}").search_experiments()
        durable.write_bytes(path, draft.read_bytes())


def fetch(uri: str, folder: Path, settings: Settings) -> None:
    """Copy the files under an artifact URI into `folder`, each whole or not at all."""
    from mlflow.artifacts import download_artifacts

    with tempfile.TemporaryDirectory() as scratch:
        fetched = download_artifacts(artifact_uri=uri, dst_path=scratch, tracking_uri=settings.tracking_uri)
        for path in (path for path in Path(fetched).rglob("*") if path.is_file()):
            durable.write_bytes(folder / path.relative_to(fetched), path.read_bytes())


def save_package(
    target: Path, sampler: "nn.Module", codes: Any, images: Any, served: Path, config: Mapping[str, Any],
    requirements: Sequence[str], beside: Sequence[Path],
) -> None:  # fmt: skip
    """Write an MLflow model to the folder `target`: a graph exported as pt2, which the code in `served` runs.

    `codes` and `images`, arrays, are an example. `config` is what the code is told; files `beside` it are kept with it.
    """
    import mlflow.pyfunc
    import mlflow.pytorch
    from mlflow.models import Model, ModelSignature
    from mlflow.types import Schema, TensorSpec

    inputs, outputs = (Schema([TensorSpec(a.dtype, (-1, *a.shape[1:]))]) for a in (codes, images))
    mlflow.pytorch.save_model(
        sampler, str(target), signature=ModelSignature(inputs, outputs), input_example=codes,
        serialization_format="pt2", pip_requirements=list(requirements), extra_files=[str(path) for path in beside],
    )  # fmt: skip
    shutil.copyfile(served, target / served.name)
    model = Model.load(str(target))
    model.signature = ModelSignature(outputs=outputs)  # of inputs MLflow would take but one form
    mlflow.pyfunc.add_to_model(
        model, "mlflow.pyfunc.loaders.code_model", None, None, "conda.yaml", "python_env.yaml", dict(config),
        model_code_path=served.name, artifacts={"model": {"path": "", "uri": ""}},
    )  # fmt: skip
    model.save(str(target / "MLmodel"))


def load(folder: Path, settings: Settings) -> "PyFuncModel":
    """The model of a package, as anyone's MLflow loads it."""
    import mlflow.pyfunc

    settings.apply()
    return mlflow.pyfunc.load_model(str(folder))
