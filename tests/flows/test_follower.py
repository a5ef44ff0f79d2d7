"""The record arrives in MLflow whole and once, whatever happens to the server, and the training never waits for it."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from flows.follower import Follower
from flows.record import Training
from flows.settings import Settings
from flows.tracking import Tracker
from genmodel.errors import TrackingError, TrainingDivergedError


class Record:
    """Writes what a trainer writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "samples").mkdir(parents=True)
        self.times: dict[int, int] = {}

    def add(self, images_seen: int, end: str = "\n") -> None:
        time_ms = self.times.setdefault(images_seen, time.time_ns() // 1_000_000)
        entry = {"step": images_seen, "images_seen": images_seen, "time_ms": time_ms, "metrics": {"loss/total": 0.5}}
        with (self.folder / "metrics.jsonl").open("a") as handle:
            handle.write(json.dumps(entry) + end)
        if images_seen % 10 == 0 and end:
            Image.new("RGB", (8, 8)).save(self.folder / "samples" / f"{images_seen:010d}.png")


class Server:
    """A real MLflow server that can be killed, frozen and started again."""

    def __init__(self, folder: Path, database: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{port}"
        self.command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
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

    def signal(self, number: int) -> None:
        os.killpg(self.process.pid, number)
        if number == signal.SIGKILL:
            assert self.process.wait() == -9


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path, settings.root / "mlflow.db")
    made.start()
    yield made
    if made.process.poll() is None:
        made.signal(signal.SIGKILL)


@pytest.fixture
def written(tmp_path: Path) -> Record:
    return Record(tmp_path / "runs" / "abab")


def only_run(uri: str) -> Run:
    client = MlflowClient(uri, uri)
    experiment = client.get_experiment_by_name("genmodel")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def assert_complete(uri: str, written: Record) -> None:
    """Every row and every grid of the record is in its run, once, with its own time."""
    client, run_id = MlflowClient(uri, uri), only_run(uri).info.run_id
    for key in ("loss/total", "images_seen", "step"):
        arrived = [(m.step, m.timestamp) for m in client.get_metric_history(run_id, key)]
        assert sorted(arrived) == sorted(written.times.items())
    pictures = [file.path for file in client.list_artifacts(run_id, "images") if file.path.endswith(".png")]
    steps = [int(path.split("+step+")[1].split("+")[0]) for path in pictures]
    assert sorted(steps) == [n for n in sorted(written.times) if n % 10 == 0]


def metrics_now(uri: str) -> dict[str, float]:
    """The metrics of the run; none while there is no run."""
    try:
        metrics: dict[str, float] = only_run(uri).data.metrics
    except (AssertionError, ValueError):
        return {}
    return metrics


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_the_record_follows_while_the_training_runs(settings: Settings, training: Training, written: Record) -> None:
    with Follower(Tracker(settings), training, written.folder, interval=0.05, system_interval=0):
        for images_seen in range(5):
            written.add(images_seen)
        wait_for(lambda: "images_seen" in metrics_now(settings.tracking_uri))
        run = only_run(settings.tracking_uri)
        assert run.info.status == "RUNNING"
        for images_seen in range(5, 12):
            written.add(images_seen)
        wait_for(lambda: metrics_now(settings.tracking_uri).get("images_seen") == 11)
    run = only_run(settings.tracking_uri)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("FINISHED", "trained")
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert_complete(settings.tracking_uri, written)


def test_a_reading_of_the_system_before_the_first_row_hides_no_row(
    settings: Settings, training: Training, written: Record
) -> None:
    with Follower(Tracker(settings), training, written.folder, interval=0.02, system_interval=0):
        wait_for(lambda: "system/cpu_utilization_percentage" in metrics_now(settings.tracking_uri))
        written.add(0)
        written.add(1)
    assert_complete(settings.tracking_uri, written)


def test_a_run_that_is_deleted_on_the_way_is_made_anew(settings: Settings, training: Training, written: Record) -> None:
    with Follower(Tracker(settings), training, written.folder, interval=0.02):
        written.add(0)
        wait_for(lambda: "images_seen" in metrics_now(settings.tracking_uri))
        MlflowClient(settings.tracking_uri).delete_run(only_run(settings.tracking_uri).info.run_id)
        written.add(1)
        wait_for(lambda: metrics_now(settings.tracking_uri).get("images_seen") == 1)
    assert_complete(settings.tracking_uri, written)


def test_a_resume_sends_only_what_is_missing(settings: Settings, training: Training, written: Record) -> None:
    def interrupted() -> None:
        with Follower(Tracker(settings), training, written.folder, interval=0.02):
            for images_seen in range(12):
                written.add(images_seen)
            written.add(12, end="")  # cut short
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    run = only_run(settings.tracking_uri)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("KILLED", "stopped")
    assert run.data.metrics["images_seen"] == 11
    with (written.folder / "metrics.jsonl").open("a") as handle:
        handle.write("\n")
    with Follower(Tracker(settings), training, written.folder, interval=0.02):
        written.add(13)
    assert_complete(settings.tracking_uri, written)


def test_a_training_that_starts_anew_doubles_no_row(
    settings: Settings, training: Training, written: Record, tmp_path: Path
) -> None:
    with Follower(Tracker(settings), training, written.folder):
        written.add(0)
        written.add(1)
    time.sleep(0.01)  # the rows get other times
    anew = Record(tmp_path / "anew")
    with Follower(Tracker(settings), training, anew.folder):
        for images_seen in range(3):
            anew.add(images_seen)
    written.times[2] = anew.times[2]
    assert_complete(settings.tracking_uri, written)


@pytest.mark.parametrize(
    ("error", "outcome"), [(TrainingDivergedError("nan"), "diverged"), (RuntimeError("bug"), "failed")]
)
def test_a_failed_training_is_marked_and_its_error_passes_on(
    error: Exception, outcome: str, settings: Settings, training: Training, written: Record
) -> None:
    def failing() -> None:
        with Follower(Tracker(settings), training, written.folder):
            written.add(0)
            raise error

    with pytest.raises(type(error)) as caught:
        failing()
    assert caught.value is error
    run = only_run(settings.tracking_uri)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("FAILED", outcome)
    assert_complete(settings.tracking_uri, written)


def test_nothing_is_lost_or_doubled_when_the_server_freezes_dies_and_comes_back(
    server: Server, settings: Settings, training: Training, written: Record, caplog: pytest.LogCaptureFixture
) -> None:
    settings = replace(settings, tracking_uri=server.uri, artifacts=None)

    def train(images: range) -> float:
        """Write rows, two milliseconds apart; returns the longest time that one of them took."""
        slowest = 0.0
        for images_seen in images:
            start = time.monotonic()
            written.add(images_seen)
            time.sleep(0.002)
            slowest = max(slowest, time.monotonic() - start)
        return slowest

    def unlucky() -> None:
        with Follower(Tracker(settings), training, written.folder, interval=0.05):
            train(range(20))
            wait_for(lambda: "images_seen" in metrics_now(server.uri))
            server.signal(signal.SIGSTOP)
            assert train(range(20, 200)) < 0.5
            time.sleep(2.5)  # longer than a request may take
            server.signal(signal.SIGCONT)
            wait_for(lambda: metrics_now(server.uri).get("images_seen") == 199)
            server.signal(signal.SIGKILL)
            assert train(range(200, 300)) < 0.5
            time.sleep(1)

    with pytest.raises(TrackingError) as caught:
        unlucky()
    assert str(caught.value) == (
        f"cannot reach the tracking server at {server.uri}: the model is trained and safe; "
        "start the server and run the same command again"
    )
    told = [record.name for record in caplog.records if record.levelno >= logging.WARNING]
    assert told in (["flows.follower"], ["flows.follower"] * 2)  # once a silence
    server.start()
    with Follower(Tracker(settings), training, written.folder):
        pass
    assert only_run(server.uri).info.status == "FINISHED"
    assert_complete(server.uri, written)


def test_a_stop_does_not_wait_for_a_server_that_is_away(
    settings: Settings, training: Training, written: Record, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        away = replace(settings, tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}", artifacts=None)
        stopped: list[float] = []

        def preempted() -> None:
            with Follower(Tracker(away), training, written.folder, interval=0.02):
                wait_for(lambda: "flows.follower" in [record.name for record in caplog.records])
                stopped.append(time.monotonic())
                raise SystemExit(143)

        with pytest.raises(SystemExit):
            preempted()
    assert time.monotonic() - stopped[0] < 5
    assert "the end of this training" not in caplog.text  # it was not even tried
