"""What the follower sends, in a process of its own: the record whole and once, and how the training ended."""

import json
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.follower import Follower, Sender
from flows.tracking.trainings import Training
from genmodel.errors import TrainingDivergedError


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


@pytest.fixture
def written(tmp_path: Path) -> Record:
    return Record(tmp_path / "runs" / "abab")


@pytest.fixture
def follower(settings: Settings, training: Training, written: Record, tmp_path: Path) -> Callable[..., Follower]:
    def make(**pace: Any) -> Follower:
        return Follower(settings, training, written.folder, tmp_path / "model", interval=0.05, **pace)

    return make


def only_run(settings: Settings) -> Run:
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    experiment = client.get_experiment_by_name("genmodel")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    return run


def assert_complete(settings: Settings, written: Record) -> None:
    """Every row and every grid of the record is in its run, once, with its own time."""
    client, run_id = MlflowClient(settings.tracking_uri, settings.tracking_uri), only_run(settings).info.run_id
    for key in ("loss/total", "images_seen", "step"):
        arrived = [(m.step, m.timestamp) for m in client.get_metric_history(run_id, key)]
        assert sorted(arrived) == sorted(written.times.items())
    pictures = [
        file.path for file in client.list_artifacts(run_id, "images") if re.search(r"samples\+.*png$", file.path)
    ]
    steps = [int(path.split("+step+")[1].split("+")[0]) for path in pictures]
    assert sorted(steps) == [n for n in sorted(written.times) if n % 10 == 0]


def metrics_now(settings: Settings) -> dict[str, float]:
    """The metrics of the run; none while there is no run."""
    try:
        metrics: dict[str, float] = only_run(settings).data.metrics
    except (AssertionError, ValueError):
        return {}
    return metrics


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def sender(settings: Settings, training: Training, written: Record, system_interval: float = 10) -> Sender:
    return Sender(Tracker(settings), training, written.folder, system_interval)


def test_the_record_follows_while_the_training_runs(
    settings: Settings, written: Record, follower: Callable[..., Follower], tmp_path: Path
) -> None:
    with follower(system_interval=0):
        for images_seen in range(5):
            written.add(images_seen)
        wait_for(lambda: "images_seen" in metrics_now(settings))
        run = only_run(settings)
        assert (run.info.status, run.info.run_name) == ("RUNNING", "small-vae-abababab")
        for images_seen in range(5, 12):
            written.add(images_seen)
        wait_for(lambda: metrics_now(settings).get("images_seen") == 11)
        (tmp_path / "model").mkdir()
        for name in ("timeline.png", "replay.gif", "weights.safetensors"):
            (tmp_path / "model" / name).write_bytes(b"...")
    run = only_run(settings)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("FINISHED", "trained")
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert_complete(settings, written)
    beside = MlflowClient(settings.tracking_uri).list_artifacts(run.info.run_id)
    assert {file.path for file in beside} == {"images", "timeline.png", "replay.gif"}


def test_a_reading_of_the_system_before_the_first_row_hides_no_row(
    settings: Settings, training: Training, written: Record
) -> None:
    sending = sender(settings, training, written, system_interval=0)
    sending.send()
    assert "system/cpu_utilization_percentage" in metrics_now(settings)
    written.add(0)
    written.add(1)
    sending.end("FINISHED", "trained")
    assert_complete(settings, written)


def test_a_run_that_is_deleted_on_the_way_is_made_anew(
    settings: Settings, training: Training, written: Record, capfd: pytest.CaptureFixture[str]
) -> None:
    sending = sender(settings, training, written)
    written.add(0)
    sending.send()
    MlflowClient(settings.tracking_uri).delete_run(only_run(settings).info.run_id)
    written.add(1)
    assert not sending._attempt(sending.send)
    assert "must be in the 'active' state" in capfd.readouterr().err
    sending.end("FINISHED", "trained")
    assert_complete(settings, written)


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(143)], ids=repr)
def test_a_resume_sends_only_what_is_missing(
    stop: BaseException, settings: Settings, written: Record, follower: Callable[..., Follower]
) -> None:
    def interrupted() -> None:
        with follower():
            for images_seen in range(12):
                written.add(images_seen)
            written.add(12, end="")  # cut short
            wait_for(lambda: "images_seen" in metrics_now(settings))
            raise stop

    with pytest.raises(type(stop)):
        interrupted()
    run = only_run(settings)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("KILLED", "stopped")
    assert run.data.metrics["images_seen"] == 11
    with (written.folder / "metrics.jsonl").open("a") as handle:
        handle.write("\n")
    with follower():
        written.add(13)
    run = only_run(settings)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("FINISHED", "trained")
    assert_complete(settings, written)


def test_a_training_that_starts_anew_doubles_no_row(
    settings: Settings, training: Training, written: Record, tmp_path: Path
) -> None:
    written.add(0)
    written.add(1)
    sender(settings, training, written).end("FINISHED", "trained")
    time.sleep(0.01)  # the rows get other times
    anew = Record(tmp_path / "anew")
    for images_seen in range(3):
        anew.add(images_seen)
    sender(settings, training, anew).end("FINISHED", "trained")
    written.times[2] = anew.times[2]
    assert_complete(settings, written)


@pytest.mark.parametrize(
    ("error", "outcome"), [(TrainingDivergedError("nan"), "diverged"), (RuntimeError("bug"), "failed")]
)
def test_a_failed_training_is_marked_and_its_error_passes_on(
    error: Exception, outcome: str, settings: Settings, written: Record, follower: Callable[..., Follower]
) -> None:
    def failing() -> None:
        with follower():
            written.add(0)
            (written.folder / "curves.png").write_bytes(b"...")
            raise error

    with pytest.raises(type(error)) as caught:
        failing()
    assert caught.value is error
    run = only_run(settings)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("FAILED", outcome)
    assert_complete(settings, written)
    beside = MlflowClient(settings.tracking_uri).list_artifacts(run.info.run_id)
    assert {file.path for file in beside} == {"images", "curves.png"}, "what went wrong, to be seen"


def test_a_follower_that_dies_costs_a_warning(
    settings: Settings, training: Training, written: Record, follower: Callable[..., Follower],
    capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    with follower() as following:
        written.add(0)
        following.process.kill()
        assert following.process.wait() == -9
        written.add(1)
    assert capfd.readouterr().err == (
        "warning: the end of the training of small-vae is not in MLflow: "
        "the model is safe, and its evaluation sends the rest\n"
    )
    sender(settings, training, written).end("FINISHED", "trained")
    assert_complete(settings, written)


HELD_UP = """
import os, pickle, sys, time
from pathlib import Path
from flows.tracking.follower import Follower
root = Path(sys.argv[1])
settings, training = pickle.loads((root / "told").read_bytes())
with Follower(settings, training, root, root, interval=0.05) as follower:
    print(follower.process.pid, flush=True)
    time.sleep(60)
"""


def test_the_follower_dies_with_its_training_whatever_it_waits_for(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    with socket.socket() as silent:  # takes connections and never answers
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        environment = {**settings.environment, "MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "60"}
        away = replace(settings, tracking_uri=uri, artifacts=None, environment=environment)
        (tmp_path / "told").write_bytes(pickle.dumps((away, training)))
        command = [sys.executable, "-c", HELD_UP, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            follower = int(process.stdout.readline())
            silent.settimeout(60)
            asking, _ = silent.accept()  # the follower waits for an answer now
            for number in (signal.SIGTERM, signal.SIGINT):  # as the whole group gets them
                os.kill(follower, number)
            time.sleep(0.2)
            assert is_alive(follower)
            process.kill()
        assert process.returncode == -9
        wait_for(lambda: not is_alive(follower), seconds=20)  # of the 60 that it would wait
        asking.close()


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_it_gives_way_to_the_training(
    training: Training, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Follower, "nice", 10)
    monkeypatch.setattr(Follower, "patience", 0.1)
    with Follower(settings, training, tmp_path / "record", tmp_path / "model") as follower:
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        wait_for(lambda: os.getpriority(os.PRIO_PROCESS, follower.process.pid) == min(mine + 10, 19))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for command lines in /proc")
def test_no_password_is_in_a_process_list(training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.read({"MLFLOW_TRACKING_URI": "http://me:pa55word@127.0.0.1:1"}, tmp_path)
    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Follower, "patience", 0.1)
    with Follower(settings, training, tmp_path / "record", tmp_path / "model") as follower:
        shown = Path(f"/proc/{follower.process.pid}/cmdline")
        wait_for(lambda: b"flows.tracking.follower" in shown.read_bytes())  # empty while it is starting
        assert b"pa55word" not in shown.read_bytes()
