"""A toy project of the real graph's shape, a small one with real models, a Prefect server, an MLflow for each test."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from flows import stages, tracking
from flows.settings import Settings
from flows.tracking.follower import Follower
from flows.tracking.trainings import DataVersion, Training
from flows.versioning import dvc as versioning
from genmodel.data.block import Block
from tests.flows import small_project, toy_project
from tests.flows.toy_project import Toy, environment


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """MLflow writes the address of each store that is opened into os.environ, for whatever is started next."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


@pytest.fixture(autouse=True, scope="session")
def patient() -> Iterator[None]:
    """A follower that gave way to the other tests on a machine would need minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Follower, "nice", 0)
        patch.setattr(Follower, "patience", 120.0)
        patch.setattr(Follower, "hurry", 120.0)
        yield


@pytest.fixture
def empty_project(tmp_path: Path) -> Toy:
    """Git and DVC, nothing else."""
    toy = Toy(tmp_path / "project")
    toy.write(".dvc/config", "[core]\n    analytics = false\n    check_update = false\n")
    subprocess.run(["git", "init", "--quiet", str(toy.root)], check=True)
    return toy


@pytest.fixture
def toy(empty_project: Toy) -> Toy:
    """The whole graph, with data that is not yet versioned; nothing has run."""
    toy = empty_project
    for name, text in {
        "params.yaml": toy_project.PARAMS,
        "dvc.yaml": toy_project.DVC_YAML,
        "stages.py": toy_project.STAGES,
        ".gitignore": toy_project.IGNORED,
        "data/block.json": "{}",
    }.items():
        toy.write(name, text)
    return toy


@pytest.fixture
def ready(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The toy project, its data versioned."""
    monkeypatch.setenv("SHELL", "/bin/sh")
    versioning.add(toy.root, {"source": "digits", "sizes": [16]})
    return toy


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect's embedded server, once for all tests: it takes about 15 s to start."""
    home = tmp_path_factory.mktemp("prefect")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in Settings.read({"PREFECT_HOME": str(home)}, home).environment.items():
            patch.setenv(name, value)
        from prefect.context import refresh_global_settings_context
        from prefect.testing.utilities import prefect_test_harness

        refresh_global_settings_context()
        with prefect_test_harness(server_startup_timeout=300):
            yield


@pytest.fixture(scope="session")
def empty_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's database without runs, made once: its migrations take longer than all else of a server's start."""
    home = tmp_path_factory.mktemp("prefect")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    upgrade = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
    subprocess.run(upgrade, env={**clean, "PREFECT_HOME": str(home)}, check=True, capture_output=True)
    return home / "prefect.db"


@pytest.fixture
def flow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """flow(root) -> the state in which the flow `retrain` ends there; it needs `prefect_server`."""
    from flows.retrain import retrain

    def run(root: Path, **parameters: Any) -> Any:
        monkeypatch.chdir(root)
        return retrain(**parameters, return_state=True)

    return run


@pytest.fixture
def run_command() -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Runs a command in a folder with the toy's environment."""

    def run(command: list[str], cwd: Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True)

    return run


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's sqlite file without runs, made once: its migrations take seconds."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking.make_database(path)
    return path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_database: Path) -> Settings:
    """Of a project with an MLflow of its own; the environment is as before when the test is over."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    chosen = Settings.read({"MLFLOW_HTTP_REQUEST_TIMEOUT": "1"}, tmp_path)
    for name, value in chosen.environment.items():
        monkeypatch.setenv(name, value)
    return chosen


@pytest.fixture
def training() -> Training:
    data = DataVersion(digest="0123456789abcdef" * 2 + ".dir", source="digits", images=60, classes=2, sizes=(8, 16))
    config = {"family": "vae", "image_size": 8, "network": {"latent_dim": 4}, "training": {"seed": 0, "flip": False}}
    return Training(name="small-vae", family="vae", fingerprint="ab" * 32, config=config, data=data)


@pytest.fixture
def sources(tmp_path: Path, raw: Path) -> list[str]:
    """Three folders beside the project, as it names them: 30 circles, 20 squares, and all 60 images."""
    shutil.copytree(raw / "circle", tmp_path / "first" / "circle")
    for path in sorted((raw / "square").iterdir())[:20]:
        (tmp_path / "more" / "square").mkdir(parents=True, exist_ok=True)
        shutil.copy(path, tmp_path / "more" / "square")
    return ["../first", "../more", "../raw"]


@pytest.fixture
def project(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Path:
    """A project with versioned data and two tiny models to train, and an MLflow of its own."""
    _lay_out(tmp_path, block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _lay_out(folder: Path, block: Block) -> None:
    shutil.copytree(block.path, folder / "data")
    (folder / "data.dvc").write_text(small_project.DATA_DVC)
    (folder / "params.yaml").write_text(small_project.PARAMS)


# not what failed: how far a training is, and the small project's 58 images
BESIDE = (" images/s, ", "more than the 58 images of the train split")


@pytest.fixture
def fails(project: Path, capfd: pytest.CaptureFixture[str]) -> small_project.Stage:
    """fails(words) -> the one line of a stage that must fail as a user's mistake."""

    def run(*words: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit, match="2"):
            stages.main(list(words))
        told = capfd.readouterr().err.splitlines(keepends=True)
        said = "".join(line for line in told if not any(words in line for words in BESIDE))
        assert said.startswith("error: ") and said.count("\n") == 1, said
        return said.removeprefix("error: ").strip()

    return run


@contextlib.contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, value in Settings.read({}, folder).environment.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def evaluated_once(block: Block, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with both models trained and evaluated, made once; tests take copies, as a person may."""
    folder = tmp_path_factory.mktemp("evaluated")
    _lay_out(folder, block)
    shutil.copy(empty_database, folder / "mlflow.db")
    with _standing_in(folder):
        small_project.run("reference", "train small", "evaluate small", "train large", "evaluate large")
    return folder


@pytest.fixture(scope="session")
def decided_once(block: Block, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with one model, which is champion, made once."""
    folder = tmp_path_factory.mktemp("decided")
    _lay_out(folder, block)
    shutil.copy(empty_database, folder / "mlflow.db")
    large = next(line for line in small_project.PARAMS.splitlines() if " large:" in line)
    small_project.change(folder, large + "\n", "")
    with _standing_in(folder):
        small_project.run("reference", "train small", "evaluate small", "compare", "register")
    return folder


@pytest.fixture
def evaluated(project: Path, settings: Settings, evaluated_once: Path) -> Path:
    """The project with both models trained and evaluated."""
    return _copied(evaluated_once, project, settings)


@pytest.fixture
def decided(project: Path, settings: Settings, decided_once: Path) -> Path:
    """The project with one model, which is champion."""
    return _copied(decided_once, project, settings)


def _copied(made: Path, project: Path, settings: Settings) -> Path:
    shutil.copytree(made, project, dirs_exist_ok=True)
    with tracking.Tracker(settings).talking():  # which says that the project was copied, once
        return project


@pytest.fixture
def received() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An Apprise URL, and what has arrived there."""
    messages: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            messages.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"json://127.0.0.1:{server.server_port}", messages
    server.shutdown()
    server.server_close()
