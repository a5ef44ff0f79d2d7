"""Fresh clones of this project with a short budget, and commands that a person gives in them."""

import os
import re
import subprocess
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

from genmodel.files import durable

ROOT = Path(__file__).parents[2]
MODELS = {"dcgan", "vae"}  # one of each kind of those in params.yaml, and one that is conditional
FREE = {"min_precision": 0, "min_recall": 0, "max_copied": 1}  # models that have hardly trained pass no guardrail
# as short as a training can be that the gate does not find sick
SHORT = FREE | {"images": 6400, "classifier_images": 640, "samples": 64, "log_every": 1280}
OF_ANOTHER_LINE = ("PREFECT_", "MLFLOW_", "DVC_", "GENMODEL_")
AUTHOR = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


@dataclass
class Clone:
    """A fresh clone of this project, and what was said and left when its line ran for the first time."""

    root: Path
    told: list[str] = field(default_factory=list)  # by the runs of its line
    locks: list[dict[str, Any]] = field(default_factory=list)  # dvc.lock after each of them, parsed
    first: dict[str, Any] = field(default_factory=dict)  # MLflow's summary after the first
    servers: dict[str, str] = field(default_factory=dict)  # variables that name those it uses; none: its own

    def run(self, *command: str) -> str:
        """What a command says that a person gives in the clone, with .venv active; it must not fail."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(OF_ANOTHER_LINE)}
        environment = {**clean, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            command,
            cwd=self.root,
            env={**environment, "SHELL": "/bin/sh", **self.servers},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1200,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def run_line(self, *command: str) -> None:
        self.told.append(self.run(*command))
        self.locks.append(yaml.safe_load((self.root / "dvc.lock").read_text()))

    def summary(self) -> dict[str, Any]:
        """What MLflow holds of each model, for a comparison."""
        return {name: (run.info.run_id, run.info.end_time, run.data.metrics) for name, run in self.runs().items()}

    def client(self) -> MlflowClient:
        uri = self.servers.get("MLFLOW_TRACKING_URI", f"sqlite:///{self.root / 'mlflow.db'}")
        return MlflowClient(uri, uri)

    def all_runs(self) -> list[Any]:
        (experiment,) = self.client().search_experiments(filter_string="name = 'genmodel'")
        return list(self.client().search_runs([experiment.experiment_id]))

    def runs(self) -> dict[str, Any]:
        """The runs by the model's name; two runs of one model are an error."""
        found = self.all_runs()
        runs = {run.data.tags["model"]: run for run in found}
        assert len(runs) == len(found), [run.info.run_name for run in found]
        return runs


def git(*arguments: str) -> str:
    return subprocess.run(["git", *AUTHOR, *arguments], check=True, capture_output=True, text=True).stdout


def copy_project(to: Path, models: Collection[str] = MODELS) -> None:
    """A repository with the project's files as they lie here, committed or not yet, and a short budget."""
    for name in git("-C", str(ROOT), "ls-files", "-z", "-co", "--exclude-standard").strip("\0").split("\0"):
        if (ROOT / name).exists() and name != "dvc.lock":  # it names all models of params.yaml
            durable.write_bytes(to / name, (ROOT / name).read_bytes())
    text = (to / "params.yaml").read_text()
    for other in yaml.safe_load(text)["models"].keys() - models:
        text, count = re.subn(rf"(?m)^  {other}:.*\n(?:    .*\n)+", "", text)
        assert count, other
    for key, value in SHORT.items():
        text, count = re.subn(rf"(?m)^( *{key}:) *[\d.]+", rf"\1 {value}", text)
        assert count, key
    (to / "params.yaml").write_text(text)
    git("init", "--quiet", str(to))
    git("-C", str(to), "add", "--all")
    git("-C", str(to), "commit", "--quiet", "--message", "as it is")
