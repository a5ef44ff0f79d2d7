import json
import multiprocessing
import os
import pickle
import re
import socket
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run
from PIL import Image

from flows.settings import Settings
from flows.tracking import FIX, Tracker
from flows.tracking.follower import SystemReader
from flows.tracking.trainings import Row, Training
from genmodel.errors import TrackingError
from genmodel.evaluation.report import Timing
from genmodel.files.model_folder import write_config
from tests.reports import Numbers, made_report

BEGIN = """
import pickle, sys
from pathlib import Path
import mlflow
from flows.settings import Settings
from flows.tracking import Tracker
root = Path(sys.argv[1])
training = pickle.loads((root / "training").read_bytes())
print("ready", flush=True)
input()
print(Tracker(Settings.read({}, root))._find_or_create(training, 1000).info.run_id)
"""


def client_of(settings: Settings) -> MlflowClient:
    return MlflowClient(settings.tracking_uri, settings.tracking_uri)


def history(settings: Settings, run_id: str, key: str) -> list[tuple[int, int, float]]:
    return [(m.step, m.timestamp, m.value) for m in client_of(settings).get_metric_history(run_id, key)]


def image_steps(settings: Settings, run_id: str) -> list[int]:
    paths = [file.path for file in client_of(settings).list_artifacts(run_id, "images")]
    paths = [path for path in paths if path.startswith("images/samples+") and path.endswith(".png")]
    return sorted(int(path.split("+step+")[1].split("+")[0]) for path in paths)


def rows(*images_seen: int) -> list[Row]:
    return [Row(n, 10**12 + n, {"loss/total": 1 / (1 + n), "images_seen": n}) for n in images_seen]


def grid(folder: Path, images_seen: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{images_seen:010d}.png"
    Image.new("RGB", (8, 8), (images_seen % 256, 0, 0)).save(path)
    return path


def model_folder(training: Training, folder: Path) -> Path:
    folder.mkdir()
    described = {
        "name": training.name,
        "fingerprint": training.fingerprint,
        "config": training.config,
        "weights": "w" * 64,
    }
    (folder / "history.csv").write_text("images_seen,step,loss/total\n0,0,1\n64,1,0.5\n128,2,nan\n")
    for images_seen in (0, 128):
        grid(folder / "samples", images_seen)
    (folder / "replay.gif").write_bytes(b"...")
    write_config(folder, described)
    return folder


def test_two_first_users_at_once_make_one_database_and_one_run(tmp_path: Path, training: Training) -> None:
    (tmp_path / "training").write_bytes(pickle.dumps(training))
    command = [sys.executable, "-c", BEGIN, str(tmp_path)]
    users = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [user.stdout.readline() for user in users if user.stdout] == ["ready\n"] * 2
    for user in users:
        print(file=user.stdin, flush=True)
    answers = [user.communicate()[0] for user in users]
    assert [user.returncode for user in users] == [0, 0]
    assert len(set(answers)) == 1
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select count(*) from runs").fetchone() == (1,)
    assert not (tmp_path / "mlruns").exists() and not Path("mlruns").exists()


def test_a_run_says_what_was_trained_on_what(settings: Settings, training: Training) -> None:
    many = {**training.config, "extra": {str(n): n for n in range(150)}}  # more than one call may hold
    sent = Tracker(settings).begin(replace(training, config=many), started_ms=5000)
    assert (sent.images_seen, sent.samples) == (-1, -1)
    run = client_of(settings).get_run(sent.run_id)
    assert run.info.run_name == "small-vae-abababab"
    assert (run.info.status, run.info.start_time) == ("RUNNING", 5000)
    assert len(run.data.params) == 155
    assert run.data.params["network.latent_dim"] == "4"
    assert {key: run.data.tags[key] for key in ("family", "model", "genmodel.data", "genmodel.outcome")} == {
        "family": "vae",
        "model": "small-vae",
        "genmodel.data": training.data.digest,
        "genmodel.outcome": "training",
    }
    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("digits", training.data.digest)
    assert json.loads(used.dataset.profile) == {"images": 60, "classes": 2, "sizes": [8, 16]}
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    experiment = client_of(settings).get_experiment(run.info.experiment_id)
    assert experiment.artifact_location == (settings.root / "mlartifacts").as_uri()


def test_beginning_again_finds_the_same_run(settings: Settings, training: Training) -> None:
    first = Tracker(settings).begin(training, 1000)
    Tracker(settings).end(first.run_id, "FINISHED", "trained")
    assert Tracker(settings).begin(training, 2000).run_id == first.run_id
    assert Tracker(settings).begin(replace(training, fingerprint="cd" * 32), 1000).run_id != first.run_id
    assert len(client_of(settings).get_run(first.run_id).inputs.dataset_inputs) == 1
    client_of(settings).delete_run(first.run_id)
    assert Tracker(settings).begin(training, 1000).run_id != first.run_id


def test_a_run_that_a_frozen_server_made_twice_becomes_one(settings: Settings, training: Training) -> None:
    tracker, client = Tracker(settings), client_of(settings)
    sent = tracker.send(tracker.begin(training, 1000), rows(0), {})
    experiment = client.get_run(sent.run_id).info.experiment_id
    client.create_run(experiment, 1000, training.tags(settings.root))
    client.create_run(experiment, 900, training.tags(settings.root))
    assert tracker.begin(training, 1000).run_id == sent.run_id, "the one that holds the rows"
    assert len(client.search_runs([experiment])) == 1


def test_rows_sent_twice_are_there_once(settings: Settings, training: Training) -> None:
    tracker = Tracker(settings)
    sent = tracker.begin(training, 1000)
    strange = Row(192, 10**12, {"images_seen": 192, "a": float("nan"), "b": float("inf")})
    tracker.send(sent, rows(0, 64), {})
    tracker.send(sent, [*rows(0, 64, 128), strange], {})  # as after a kill before the reply was read
    tracker.send(sent, [strange], {})
    assert history(settings, sent.run_id, "loss/total") == [(n, 10**12 + n, 1 / (1 + n)) for n in (0, 64, 128)]
    assert len(history(settings, sent.run_id, "a")) == len(history(settings, sent.run_id, "b")) == 1
    assert tracker.begin(training, 1000).images_seen == 192


def test_more_rows_than_a_call_may_hold(
    settings: Settings, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(settings)
    sizes = []
    log_batch = MlflowClient.log_batch

    def spy(self: MlflowClient, run_id: str, metrics: Any = (), **rest: Any) -> None:
        sizes.append(len(metrics))
        log_batch(self, run_id, metrics=metrics, **rest)

    monkeypatch.setattr(MlflowClient, "log_batch", spy)
    sent = tracker.send(tracker.begin(training, 1000), rows(*range(0, 64 * 700, 64)), {})
    assert sent.images_seen == 64 * 699
    assert len(history(settings, sent.run_id, "loss/total")) == 700
    assert max(sizes) <= 1000  # MLflow would cut a longer call within a row


def test_grids_are_sent_once_for_the_image_grid(settings: Settings, training: Training, tmp_path: Path) -> None:
    tracker = Tracker(settings)
    grids = {n: grid(tmp_path / "samples", n) for n in (0, 64)}
    tracker.send(tracker.begin(training, 1000), [], grids)
    resumed = Tracker(settings).begin(training, 1000)
    assert resumed.samples == 64
    sent = tracker.send(resumed, [], grids | {128: grid(tmp_path / "samples", 128)})
    assert sent.samples == 128
    assert image_steps(settings, sent.run_id) == [0, 64, 128]
    assert client_of(settings).get_run(sent.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_a_grid_of_which_a_part_has_arrived_is_sent_again(
    settings: Settings, training: Training, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, path = Tracker(settings), grid(tmp_path / "samples", 64)
    sent = tracker.begin(training, 1000)
    log_artifacts = MlflowClient.log_artifacts

    def cut_short(self: MlflowClient, run_id: str, folder: str, place: str) -> None:
        whole = next(Path(folder).glob("*.png"))
        whole.write_bytes(whole.read_bytes()[:20])
        log_artifacts(self, run_id, folder, place)
        raise OSError("killed here")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "log_artifacts", cut_short)
        with pytest.raises(OSError, match="killed here"):
            tracker.send(sent, [], {64: path})
    os.utime(path, (1, 1))  # as a copy out of DVC's cache
    tracker.send(tracker.begin(training, 1000), [], {64: path})
    files = client_of(settings).list_artifacts(sent.run_id, "images")
    assert len(files) == 4, "one picture and its thumbnail, and the same as the latest"
    (picture,) = [file for file in files if re.search(r"samples\+.*png$", file.path)]
    assert picture.file_size == path.stat().st_size


def test_a_restored_model_gets_a_run_from_its_history(settings: Settings, training: Training, tmp_path: Path) -> None:
    tracker = Tracker(settings)
    folder = model_folder(training, tmp_path / "model")
    run_id = tracker.restore(folder, training.data, tmp_path)
    assert tracker.restore(folder, training.data, tmp_path) == run_id
    run: Run = client_of(settings).get_run(run_id)
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("FINISHED", "trained")
    assert [step for step, _, _ in history(settings, run_id, "loss/total")] == [0, 64, 128]
    assert image_steps(settings, run_id) == [0, 128]
    assert "replay.gif" in {file.path for file in client_of(settings).list_artifacts(run_id)}


def test_restoring_fills_up_what_a_killed_training_has_sent(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    tracker = Tracker(settings)
    sent = tracker.send(tracker.begin(training, 1000), rows(0, 64), {})
    assert tracker.restore(model_folder(training, tmp_path / "model"), training.data, tmp_path) == sent.run_id
    assert sorted(step for step, _, _ in history(settings, sent.run_id, "loss/total")) == [0, 64, 128]


def test_evaluation_joins_the_run_of_the_training(settings: Settings, training: Training, tmp_path: Path) -> None:
    tracker = Tracker(settings)
    figures: Numbers = {"fd_classifier": 12.5, "bits_per_dim": None}
    report = made_report("vae", figures, conditions={"n_samples": 60}, fingerprint=training.fingerprint)
    with pytest.raises(TrackingError, match="no run of the training abababababab"):
        tracker.log_evaluation(report, Timing(seconds=3.0))
    run_id = tracker.begin(training, 1000).run_id
    picture = grid(tmp_path, 7)
    for _ in range(2):
        tracker.log_evaluation(report, Timing(seconds=3.0), [picture])
    run = client_of(settings).get_run(run_id)
    assert {key: value for key, value in run.data.metrics.items() if key.startswith("eval")} == {
        "eval/fd_classifier": 12.5,
        "eval_cost/seconds": 3.0,
    }
    assert len(history(settings, run_id, "eval/fd_classifier")) == 1
    assert (run.data.tags["eval.extractor.name"], run.data.tags["eval.n_samples"]) == ("classifier", "60")
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", run.data.tags["genmodel.judged"])
    assert {file.path for file in client_of(settings).list_artifacts(run_id)} == {"report.json", picture.name}


def test_system_figures_are_numbers(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    figures = SystemReader(settings).read()
    assert list(elsewhere.iterdir()) == []
    assert "system/cpu_utilization_percentage" in figures
    assert all(isinstance(value, float) for value in figures.values())


def test_a_server_that_is_down_is_told_fast_and_in_one_line(settings: Settings, training: Training) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{unused.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(TrackingError) as caught:
            Tracker(replace(settings, tracking_uri=uri)).begin(training, 1000)
    assert str(caught.value) == f"cannot reach the tracking server at {uri}: {FIX}"
    assert time.monotonic() - start < 10


def test_a_database_of_another_version_is_one_line(settings: Settings, training: Training) -> None:
    with sqlite3.connect(settings.root / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = 'abc'")
    with pytest.raises(TrackingError, match=r"schema \(abc\) that MLflow \S+ does not know") as caught:
        Tracker(settings).begin(training, 1000)
    assert "\n" not in str(caught.value)


def _count(settings: Settings, path: Path) -> None:
    for _ in range(50):
        with Tracker(settings).locked("promotion"):
            path.write_text(str(int(path.read_text()) + 1))


def test_a_lock_keeps_other_processes_out(settings: Settings, tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_count, args=(settings, counter)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert counter.read_text() == "100"
    assert (tmp_path / "mlflow.db.promotion").exists()
