"""Projects that were copied or moved, and MLflow's troubles: one line each."""

import shutil
import socket
import sqlite3
import time
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient

from flows.settings import Settings
from flows.tracking import Tracker, fetch
from flows.tracking.trainings import Training
from genmodel.errors import TrackingError


@pytest.fixture
def original(settings: Settings, training: Training, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A project with a run, and a registered version whose package is one file."""
    root = tmp_path_factory.mktemp("a project") / "here"
    root.mkdir()
    shutil.copy(settings.root / "mlflow.db", root)
    made = Settings.read({}, root)
    tracker = Tracker(made)
    run_id = tracker.begin(training, 1000).run_id
    package = root / "package"
    package.mkdir()
    (package / "weights").write_text("the weights")
    with tracker.talking() as (client, experiment):
        model = client.create_logged_model(experiment, "small", run_id)
        client.log_model_artifacts(model.model_id, str(package))
        client.finalize_logged_model(model.model_id, "READY")
        client.create_registered_model("genmodel")
        client.create_model_version("genmodel", f"models:/{model.model_id}", run_id, model_id=model.model_id)
        client.set_registered_model_alias("genmodel", "champion", "1")
    return made


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def write_and_read(settings: Settings, training: Training) -> None:
    """Attach a file to the run; fetch the champion as anyone does."""
    tracker = Tracker(settings)
    picture = settings.root / "new.txt"
    picture.write_text("new")
    tracker.attach(tracker.run(training.fingerprint).info.run_id, [picture])
    assert len(list((settings.root / "mlartifacts").rglob("new.txt"))) == 1
    fetch("models:/genmodel@champion", settings.root / "fetched", settings)
    assert (settings.root / "fetched" / "weights").read_text() == "the weights"


def test_a_copy_writes_nothing_into_its_original(
    original: Settings, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    before = listing(original.root)
    copy = Settings.read({}, Path(shutil.copytree(original.root, original.root.with_name("copy"))))
    write_and_read(copy, training)
    assert listing(original.root) == before
    assert capfd.readouterr().err.count("this project was moved or copied: ") == 1
    write_and_read(copy, training)
    assert "moved" not in capfd.readouterr().err


def test_a_moved_project_finds_its_files_and_leaves_no_trace_where_it_was(
    original: Settings, training: Training
) -> None:
    moved = Settings.read({}, original.root.rename(original.root.with_name("mov ed")))
    write_and_read(moved, training)
    assert not original.root.exists()


def test_a_place_that_someone_chose_stays(original: Settings, training: Training, tmp_path: Path) -> None:
    client = MlflowClient(original.tracking_uri)
    (tmp_path / "chosen").mkdir()
    chosen = client.create_experiment("chosen", (tmp_path / "chosen").as_uri())
    bucket = client.create_experiment("bucket", "s3://bucket/mlartifacts")
    moved = Settings.read({}, original.root.rename(original.root.with_name("moved")))
    with Tracker(moved).talking() as (client, _):
        assert client.get_experiment(chosen).artifact_location == (tmp_path / "chosen").as_uri()
        assert client.get_experiment(bucket).artifact_location == "s3://bucket/mlartifacts"


def test_a_project_that_is_reached_on_two_ways_stays_as_it_is(
    original: Settings, training: Training, capfd: pytest.CaptureFixture[str]
) -> None:
    link = original.root.with_name("link")
    link.symlink_to(original.root)
    write_and_read(replace(original, root=link, artifacts=link / "mlartifacts"), training)
    assert "moved" not in capfd.readouterr().err


def said(settings: Settings) -> str:
    with pytest.raises(TrackingError) as caught, Tracker(settings).talking():
        pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_deleted_experiment_says_how_to_restore_it(settings: Settings) -> None:
    with Tracker(settings).talking() as (client, experiment):
        client.delete_experiment(experiment)
    assert f"MLFLOW_TRACKING_URI='{settings.tracking_uri}' mlflow experiments restore -x {experiment}" in said(settings)


def test_a_missing_driver_is_named_by_its_package_and_no_password_is_said(tmp_path: Path) -> None:
    text = said(Settings.read({"MLFLOW_TRACKING_URI": "mysql://me:pa55word@127.0.0.1:9/db"}, tmp_path))
    assert "pip install mysqlclient" in text and "pa55word" not in text


def test_a_wrong_host_is_told_within_15_seconds(tmp_path: Path) -> None:
    """One that no network leads to, and one that takes no more connections, as a host that drops packets."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        for uri in ("http://192.0.2.1:5000", f"http://127.0.0.1:{port}"):
            start = time.monotonic()
            text = said(Settings.read({"MLFLOW_TRACKING_URI": uri}, tmp_path))
            assert text.startswith(f"cannot reach the tracking server at {uri}")
            assert time.monotonic() - start < 15
        for each in waiting:
            each.close()


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_damaged_database_names_its_cure(damage: str, original: Settings) -> None:
    path = original.root / "mlflow.db"
    content = path.read_bytes()
    (original.root / "mlartifacts").mkdir(exist_ok=True)
    path.write_bytes({"text": b"no database " * 1000, "cut": content[: len(content) // 3], "empty": b""}[damage])
    text = said(original)
    assert ("is empty" if damage == "empty" else "is damaged") in text and "put a backup of it back" in text


def test_a_database_of_an_older_mlflow_says_how_to_upgrade(settings: Settings) -> None:
    with sqlite3.connect(settings.root / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = '451aebb31d03'")
    assert f"mlflow db upgrade '{settings.tracking_uri}'" in said(settings)
