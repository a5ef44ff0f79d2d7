"""A toy project of the real graph's shape, one embedded Prefect server for the whole test run, an MLflow a test."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import tracking
from flows.settings import Settings
from flows.tracking.trainings import DataVersion, Training

PARAMS = """
models:
  dcgan: {images: 1}
  vae: {images: 2}
gate: {margin: 0.1}
"""

DVC_YAML = """
stages:
  train:
    foreach: ${models}
    do:
      desc: Train ${key}
      cmd: python stages.py train ${key}
      deps: [data, stages.py]
      params: ["models.${key}"]
      outs: ["models/${key}"]
      meta: {deadline_minutes: 2, tags: [gpu]}
  evaluate:
    foreach: ${models}
    do:
      cmd: python stages.py evaluate ${key}
      deps: ["models/${key}"]
      metrics: ["reports/${key}.json"]
  compare:
    cmd: python stages.py compare
    deps: [reports]
    outs: [ranking.csv]
  register:
    cmd: python stages.py register
    deps: [ranking.csv]
    params: [gate]
    metrics: [decision.json]
"""

# every stage tells in ran.txt that it ran; a file named after a stage holds code that it runs first
STAGES = """
import json, os, pathlib, re, sys
stage, name = sys.argv[1], sys.argv[-1]
with open("ran.txt", "a") as ran:
    print(" ".join(sys.argv[1:]), file=ran)
trick = pathlib.Path(f"trick-{'-'.join(sys.argv[1:])}.py")
if trick.exists():
    exec(trick.read_text())
print("working on", *sys.argv[1:])

def write(path, text):
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)

if stage == "train":
    images = int(re.search(name + r": {images: (\\d+)}", pathlib.Path("params.yaml").read_text())[1])
    write(f"models/{name}/weights", str(images))
    write(f"models/{name}/samples/0000000000.png", "noise")
    write(f"models/{name}/samples/0000000064.png", "better")
if stage == "evaluate":
    images = int(pathlib.Path(f"models/{name}/weights").read_text())
    write(f"reports/{name}.json", json.dumps({"fd_toy": 8.25 / images}))
if stage == "compare":
    figures = {path.stem: json.loads(path.read_text())["fd_toy"] for path in pathlib.Path("reports").glob("*.json")}
    rows = [f"{name},{figures[name]},1234,5678" for name in sorted(figures, key=figures.get)]
    write("ranking.csv", "\\n".join(["model,fd_toy,parameters,bytes", *rows, ""]))
if stage == "register":
    write("decision.json", json.dumps({"outcome": "promote", "reasons": ["There is no champion."]}))
"""


@pytest.fixture(autouse=True)
def environment_as_before() -> Iterator[None]:
    """MLflow writes the address of each store that is opened into os.environ, for whatever is started next."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    yield
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    if before is not None:
        os.environ["MLFLOW_TRACKING_URI"] = before


IGNORED = "/data\n/models\n/reports\n/ranking.csv\n/decision.json\n/ran.txt\n"


class Toy:
    """A small project under git and DVC."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def replace(self, name: str, old: str, new: str) -> None:
        text = (self.root / name).read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def dvc(self, *arguments: str) -> str:
        """What a DVC command says; it must not fail."""
        done = subprocess.run(
            [sys.executable, "-m", "dvc", *arguments], cwd=self.root, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ran(self) -> list[str]:
        """The stages that have run since the last call, in order."""
        path = self.root / "ran.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return ["@".join(line.split()) for line in lines]


def environment() -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh"}


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
        "params.yaml": PARAMS,
        "dvc.yaml": DVC_YAML,
        "stages.py": STAGES,
        ".gitignore": IGNORED,
        "data/block.json": "{}",
    }.items():
        toy.write(name, text)
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
        with prefect_test_harness(server_startup_timeout=90):
            yield


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
