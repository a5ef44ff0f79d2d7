"""A real training beside a real MLflow server that is killed and frozen: nothing is lost, doubled or held up."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from flows.settings import Settings
from flows.tracking import Owner, Tracker, lease
from flows.tracking import trainings as record
from flows.tracking.follower import Follower
from flows.tracking.trainings import DataVersion
from genmodel.data.block import Block
from genmodel.errors import FollowedError
from genmodel.params import run_config
from genmodel.showing import display
from genmodel.training import trainer
from genmodel.training.identify import identify
from genmodel.training.identity import Identity

BATCH, ROWS = 16, 60
CONFIG = {
    "family": "vae",
    "image_size": 8,
    "network": {"latent_dim": 4, "base_channels": 4},
    "training": {"images": BATCH * ROWS, "batch_size": BATCH, "log_every": BATCH, "checkpoint_every": 20 * BATCH},
}
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
                self.command, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + 60
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
            with Follower(self.settings, training, folder, self.model, patience, interval=0.05):
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
        steps = [sorted(int(path.name.split("+")[2]) for path in arrived.glob(f"*.{kind}")) for kind in ("png", "webp")]
        assert steps == [[int(path.stem) for path in grids]] * 2 and len(grids) > 5
        contents = {path.read_bytes() for path in arrived.glob("*.png")}
        assert contents == {path.read_bytes() for path in grids}
        assert "timeline.png" in {file.path for file in client.list_artifacts(run.info.run_id)}


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def with_timeout(seconds: int, settings: Settings) -> Settings:
    """Settings under which a request to MLflow may take `seconds`."""
    return replace(settings, environment={**settings.environment, "MLFLOW_HTTP_REQUEST_TIMEOUT": str(seconds)})


def content(model: Path) -> dict[str, bytes]:
    return {path.relative_to(model).as_posix(): path.read_bytes() for path in model.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"), empty_database)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def identity(block: Block) -> Identity:
    return identify("small", run_config(CONFIG, "small"), block)


@pytest.fixture(scope="module")
def alone(identity: Identity, block: Block, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model as it comes out of a training that nobody follows."""
    root = tmp_path_factory.mktemp("alone")
    display.train(identity, block, root / "model", root / "runs")
    return content(root / "model")


@pytest.fixture
def scene(
    server: Server, identity: Identity, block: Block, alone: dict[str, bytes], tmp_path: Path,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
) -> Iterator[Scene]:  # fmt: skip
    environ = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_EXPERIMENT_NAME": request.node.name}
    if server.process.poll() is not None:  # a test that failed has left it dead
        server.start()
    settings = Settings.read(environ, tmp_path)
    for name, value in with_timeout(60, settings).environment.items():  # what the test itself asks may take its time
        monkeypatch.setenv(name, value)
    scene = Scene(tmp_path, with_timeout(1, settings), identity, block, server, capfd, monkeypatch)
    yield scene
    scene.assert_complete()
    assert content(scene.model) == alone, "the follower has changed the model"


def test_a_server_that_comes_late(scene: Scene) -> None:
    scene.server.kill()
    end = scene.train({
        20: scene.wait_for_warning,
        21: scene.server.start,
        22: lambda: scene.wait_for_rows(20),
    })  # fmt: skip
    assert end < BOUND
    assert scene.hear().count("warning") == 1, "once, and nothing about the end"


def test_a_server_that_is_killed_on_the_way(scene: Scene) -> None:
    def kill() -> None:
        scene.wait_for_rows(1)  # it is busy with the next ones
        scene.server.kill()

    end = scene.train({
        10: kill,
        30: scene.wait_for_warning,
        31: scene.server.start,
        32: lambda: scene.wait_for_rows(30),
    })  # fmt: skip
    assert end < BOUND
    assert scene.hear().count("warning") == 1


def test_a_server_that_is_frozen_on_the_way(scene: Scene) -> None:
    def freeze() -> None:
        scene.wait_for_rows(1)
        scene.server.freeze()

    end = scene.train({
        10: freeze,
        40: scene.wait_for_warning,
        41: scene.server.thaw,
        42: lambda: scene.wait_for_rows(40),
    })  # fmt: skip
    assert end < BOUND
    assert scene.hear().count("warning") == 1


@pytest.mark.parametrize("by", ["evaluation", "the same command"])
def test_a_server_that_is_away_at_the_end(scene: Scene, by: str) -> None:
    def kill() -> None:
        scene.wait_for_rows(1)
        scene.server.kill()

    end = scene.train({30: kill})
    assert scene.server.process.returncode == -9
    assert end < PATIENCE / 2, "nobody waits for what is refused"
    assert scene.hear().endswith(
        f"warning: cannot reach the tracking server at {scene.server.uri}; "
        "the training does not wait for it, its record follows later\n"
        "warning: the end of the training of small is not in MLflow: "
        "the model is safe, and its evaluation sends the rest\n"
    )
    assert (scene.model / "weights.safetensors").exists()
    scene.server.start()
    (run,) = scene.all_runs()
    assert run.info.status == "RUNNING" and run.data.metrics["images_seen"] < BATCH * ROWS
    if by == "evaluation":
        scene.restore()
    else:
        scene.train({})


def test_a_server_that_is_frozen_over_the_end(scene: Scene) -> None:
    def freeze() -> None:
        scene.wait_for_rows(1)
        scene.server.freeze()

    scene.settings = with_timeout(60, scene.settings)  # seconds that a request would wait
    end = scene.train({30: freeze}, patience=3)
    assert end < 6
    assert scene.hear().endswith("is not in MLflow: the model is safe, and its evaluation sends the rest\n")
    scene.server.thaw()  # what waits in it arrives now, beside what is sent again
    scene.restore()


def test_an_interrupted_training_goes_on_in_its_run(scene: Scene) -> None:
    def stop() -> None:
        scene.wait_for_rows(1)
        raise SystemExit(143)  # as after SIGTERM

    with pytest.raises(SystemExit):
        scene.train({33: stop}, patience=120)
    (run,) = scene.all_runs()
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("KILLED", "stopped")
    assert run.data.metrics["images_seen"] == 33 * BATCH
    scene.train({})
    assert scene.all_runs()[0].info.run_id == run.info.run_id


@pytest.mark.parametrize("there_is_a_run", [False, True])
def test_of_two_machines_that_begin_at_once_one_follows(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_is_a_run: bool
) -> None:
    """Both have found the run free, or no run, before either has written its name; no lock of theirs is shared."""
    environ = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_EXPERIMENT_NAME": f"contended-{there_is_a_run}"}
    training = record.Training(name="small", family="vae", fingerprint="cd" * 32, config={}, data=Scene.data)
    trackers = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        settings = Settings.read(environ, tmp_path / place)
        trackers.append(Tracker(settings, replace(Owner.here(), boot=f"machine {place}", host=place)))
        with trackers[-1].talking():
            pass
    if there_is_a_run:
        sent = trackers[0].begin(training, 1000)
        trackers[0].end(sent.run_id, "KILLED", "stopped")

    found = threading.Barrier(2)
    find = Tracker._find

    def find_together(self: Tracker, fingerprint: str) -> list[Run]:
        result = find(self, fingerprint)
        with suppress(threading.BrokenBarrierError):
            found.wait(10)
        found.abort()  # the first time alone
        return result

    monkeypatch.setattr(Tracker, "_find", find_together)
    outcomes: dict[str, str] = {}

    def begin(tracker: Tracker) -> None:
        try:
            sent = tracker.begin(training, 1000)
            outcomes[tracker._lease.owner.host] = "follows"
            tracker.log_rows(sent.run_id, [record.Row(1, 10**12, {"loss/total": 0.5, "images_seen": 1})])
        except FollowedError:
            outcomes[tracker._lease.owner.host] = "waits"

    threads = [threading.Thread(target=begin, args=(tracker,)) for tracker in trackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes.values()) == ["follows", "waits"], outcomes
    client = MlflowClient(server.uri, server.uri)
    experiment = client.get_experiment_by_name(f"contended-{there_is_a_run}")
    (run,) = client.search_runs([experiment.experiment_id])
    assert len(client.get_metric_history(run.info.run_id, "loss/total")) == 1
    (first,) = (host for host, outcome in outcomes.items() if outcome == "follows")
    owner = Owner.read(run.data.tags)
    assert owner is not None and owner.host == first and lease.LEASE in run.data.tags
