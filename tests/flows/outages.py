"""A real MLflow server that can be killed and frozen, and a training that is followed into it."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking import trainings as record
from flows.tracking.follower import Follower
from flows.tracking.trainings import DataVersion
from genmodel.data.block import Block
from genmodel.showing import display
from genmodel.training import trainer
from genmodel.training.identity import Identity

BATCH, ROWS = 16, 60
CONFIG = {
    "family": "vae",
    "image_size": 8,
    "network": {"latent_dim": 4, "base_channels": 4},
    "training": {"images": BATCH * ROWS, "batch_size": BATCH, "log_every": BATCH, "checkpoint_every": 20 * BATCH},
}
NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # else eight processes more import MLflow
PATIENCE = 20.0  # seconds that an end may wait
BOUND = PATIENCE + 10  # what a busy machine may add to it


class Server:
    """A real MLflow server: started, killed, frozen and thawed by its own id."""

    def __init__(self, folder: Path, database: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        self.command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{database}"]
        self.command += ["--artifacts-destination", str(folder / "artifacts")]
        self.folder = folder

    def start(self) -> None:
        with (self.folder / "server.log").open("a") as log:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, env=os.environ | NO_JOBS, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            try:
                urllib.request.urlopen(self.uri + "/health", timeout=1)
                return
            except OSError:
                assert self.process.poll() is None, (self.folder / "server.log").read_text()
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def states(self) -> set[str]:
        """The states of its processes, as in /proc/PID/stat: T is stopped."""
        states = set()
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(FileNotFoundError, ProcessLookupError):  # another process that has just ended
                state, _, group, *_ = path.read_text().rpartition(") ")[2].split()
                if int(group) == self.process.pid:
                    states.add(state)
        return states

    def kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)
        assert self.process.wait() == -9
        wait_for(self.refuses)

    def refuses(self) -> bool:
        with socket.socket() as asking:
            return asking.connect_ex(("127.0.0.1", self.port)) == errno.ECONNREFUSED

    def freeze(self) -> None:
        os.killpg(self.process.pid, signal.SIGSTOP)
        wait_for(lambda: self.states() == {"T"})

    def thaw(self) -> None:
        assert self.states() == {"T"}, "it was frozen until now"
        os.killpg(self.process.pid, signal.SIGCONT)


@dataclass
class Scene:
    """A training that is followed, with things that happen on its way."""

    root: Path
    settings: Settings
    identity: Identity
    block: Block
    server: Server
    capfd: pytest.CaptureFixture[str]
    patch: pytest.MonkeyPatch
    said: str = ""

    data = DataVersion(digest="0123456789abcdef" * 2 + ".dir", source="digits", images=60, classes=2, sizes=(8,))

    @property
    def model(self) -> Path:
        return self.root / "models" / "small"

    @property
    def runs(self) -> Path:
        return self.root / "runs"

    def train(self, happenings: Mapping[int, Callable[[], object]], patience: float = PATIENCE) -> float:
        """Train; what happens at which row. Returns the seconds from the last step to the end of it all."""
        config = self.identity.config
        training = record.Training(
            name="small", family=config.family, fingerprint=self.identity.fingerprint, config=config.as_dict(),
            data=self.data,
        )  # fmt: skip
        folder = trainer.run_folder(self.identity, self.runs)
        done = trainer.Training.record_and_save

        def record_and_save(loop: trainer.Training) -> None:
            done(loop)
            happenings.get(loop.images_seen // BATCH, lambda: None)()

        with self.patch.context() as patch:
            patch.setattr(trainer.Training, "record_and_save", record_and_save)
            patch.setattr(Follower, "patience", patience)
            with Follower(self.settings, training, folder, self.model, interval=0.05):
                display.train(self.identity, self.block, self.model, self.runs)
                trained = time.monotonic()
        return time.monotonic() - trained

    def hear(self) -> str:
        self.said += self.capfd.readouterr().err
        return self.said

    def wait_for_warning(self) -> None:
        wait_for(lambda: f"warning: cannot reach the tracking server at {self.server.uri}; " in self.hear())

    def wait_for_rows(self, count: int) -> None:
        wait_for(lambda: any(run.data.metrics.get("images_seen", 0) >= count * BATCH for run in self.all_runs()))

    def client(self) -> MlflowClient:
        return MlflowClient(self.server.uri, self.server.uri)

    def all_runs(self) -> list[Run]:
        experiment = self.client().get_experiment_by_name(self.settings.experiment)
        return list(self.client().search_runs([experiment.experiment_id])) if experiment else []

    def restore(self) -> None:
        Tracker(with_timeout(60, self.settings)).restore(self.model, self.data, self.runs)

    def assert_complete(self) -> None:
        """Each figure of each row of the record is there once, with its time; each picture once, to the byte."""
        (run,), folder, client = self.all_runs(), trainer.run_folder(self.identity, self.runs), self.client()
        assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("FINISHED", "trained")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert [row["images_seen"] for row in rows] == [BATCH * (n + 1) for n in range(ROWS)]
        for name in ("images_seen", "step", *rows[0]["metrics"]):
            history = client.get_metric_history(run.info.run_id, name)
            sent = [(row["images_seen"], row["time_ms"], (row | row["metrics"])[name]) for row in rows]
            assert sorted((point.step, point.timestamp, point.value) for point in history) == sent, name
        grids = sorted((folder / "samples").glob("*.png"))
        arrived = Path(client.download_artifacts(run.info.run_id, "images", str(self.root)))
        steps = [
            sorted(int(path.name.split("+")[2]) for path in arrived.glob(f"samples+*.{kind}"))
            for kind in ("png", "webp")
        ]
        assert steps == [[int(path.stem) for path in grids]] * 2 and len(grids) > 5
        contents = {path.read_bytes() for path in arrived.glob("*.png")}
        assert contents == {path.read_bytes() for path in grids}
        assert "timeline.png" in {file.path for file in client.list_artifacts(run.info.run_id)}


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def with_timeout(seconds: int, settings: Settings) -> Settings:
    """Settings under which a request to MLflow may take `seconds`."""
    return replace(settings, environment={**settings.environment, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)})


def content(model: Path) -> dict[str, bytes]:
    return {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}
