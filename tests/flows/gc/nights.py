"""A toy line whose nights take a moment: real DVC, real MLflow, rows in Prefect's real tables; fixtures: conftest.

As a script, in such a project: `python nights.py POINT...` kills `flows.gc` at these points.
"""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from dvc.repo import Repo

from flows.costs import ledger
from flows.gc.collect import Row, collect
from flows.registry.registry import CHAMPION
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.store import load_client
from flows.versioning import dvc as versioning

DVC_YAML = """
stages:
  train:
    cmd: mkdir -p models/toy && cp params.yaml models/toy/weights && cp identity.json models/toy/config.json
    deps: [data, identity.json]
    params: [night]
    outs: [models/toy]
"""
FORK = multiprocessing.get_context("fork")
ROOT = Path.cwd()
AUTHOR = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


@dataclass
class Nights:
    """Each night trains another model, registers it, and makes it the champion."""

    settings: Settings
    tracker: Tracker

    @property
    def root(self) -> Path:
        return self.settings.root

    def night(self, number: int, promoted: bool = True) -> str:
        """Returns the fingerprint."""
        fingerprint = hashlib.sha256(str(number).encode()).hexdigest()
        self.write("identity.json", json.dumps({"fingerprint": fingerprint, "name": "toy"}))
        self.write("params.yaml", f"night: {number}\n")
        with Repo(str(self.root)) as repo:
            repo.reproduce()
            digest = str(repo.find_outs_by_path(str(self.root / "models/toy"))[0].hash_info.value)
        place = self.root / "runs" / fingerprint[:16]
        for name in ("identity.json", "cost.json", "metrics.jsonl", "checkpoints/a", "samples/b"):
            self.write(f"runs/{place.name}/{name}", (self.root / "identity.json").read_text())
        self.write(f"runs/features/{fingerprint[:32]}.safetensors", "features")
        self.register(fingerprint, digest, promoted)
        self.prefect()
        run, cost = str(number), ledger.Cost(seconds=60.0)
        for stage in ("train", ""):
            ledger.keep(self.root, ledger.Line(time=datetime.now(UTC), run=run, stage=stage, cost=cost))
        return fingerprint

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def register(self, fingerprint: str, digest: str, promoted: bool) -> str:
        """A run with a metric and a file, a package and a version; returns its number."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        tags = {"genmodel.fingerprint": fingerprint, "genmodel.model": digest}
        with self.tracker.talking() as (client, experiment):
            run = client.create_run(experiment, tags=tags).info.run_id
            client.log_metric(run, "loss", 1.0)
            dataset = Dataset(name="digits", digest="d", source_type="x", source="s")
            client.log_inputs(run, [DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])])
            client.log_artifact(run, str(self.root / "identity.json"))
            model = client.create_logged_model(experiment, "toy", run, tags)
            client.log_model_artifact(model.model_id, str(self.root / "identity.json"))
            client.finalize_logged_model(model.model_id, "READY")
            if not client.search_registered_models("name = 'genmodel'"):
                client.create_registered_model("genmodel")
            source = f"models:/{model.model_id}"
            version = client.create_model_version("genmodel", source, run, tags, model_id=model.model_id).version
            client.set_terminated(run)
            if promoted:
                before = client.search_registered_models("name = 'genmodel'")[0].aliases.get("champion")
                if before:
                    client.set_registered_model_alias("genmodel", "previous", before)
                client.set_registered_model_alias("genmodel", "champion", version)
        return str(version)

    def prefect(self) -> str:
        """A run that is over, with a task, states, a log, an artifact and an event; returns its id."""
        run, task, artifact, event = (str(uuid.uuid4()) for _ in range(4))
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")
        ended = {"run_count": 1, "total_run_time": "1970-01-01 00:00:01", "state_type": "COMPLETED"}
        rows: dict[str, dict[str, Any]] = {
            "flow_run": {"id": run, "name": "x", "flow_id": self.flow(), "tags": "[]", "end_time": now, **ended},
            "task_run": {"id": task, "name": "x", "flow_run_id": run, "task_key": "t", "dynamic_key": "0", **ended},
            "flow_run_state": {"id": str(uuid.uuid4()), "flow_run_id": run, "type": "COMPLETED", "name": "x"},
            "task_run_state": {"id": str(uuid.uuid4()), "task_run_id": task, "type": "COMPLETED", "name": "x"},
            "log": {"name": "x", "level": 20, "flow_run_id": run, "message": "m" * 500, "timestamp": now},
            "artifact": {"id": artifact, "key": "samples", "data": '"' + "i" * 5000 + '"', "flow_run_id": run},
            "events": {"id": event, "occurred": now, "event": "e", "resource_id": "r", "resource": "{}",
                       "related": "[]", "related_resource_ids": "[]", "payload": "{}", "received": now},
            "event_resources": {"event_id": event, "occurred": now, "resource_id": f"prefect.flow-run.{run}",
                                "resource_role": "", "resource": "{}"},
        }  # fmt: skip
        with sqlite3.connect(self.root / ".prefect/prefect.db") as database:
            for table, row in rows.items():
                marks, names = ",".join("?" * len(row)), ",".join(f'"{name}"' for name in row)
                needed = self._needed(database, table, row)
                extra = "".join(f',"{name}"' for name in needed)
                values = [*row.values(), *needed.values()]
                database.execute(f"insert into {table} ({names}{extra}) values ({marks}{',?' * len(needed)})", values)
            database.execute(
                "insert into artifact_collection (key, latest_id) values ('samples', ?)"
                " on conflict (key) do update set latest_id = excluded.latest_id",
                (artifact,),
            )
        return run

    @staticmethod
    def _needed(database: sqlite3.Connection, table: str, row: dict[str, Any]) -> dict[str, str]:
        """Something for each other column that must not be empty and has no default."""
        columns = database.execute(f"pragma table_info({table})").fetchall()
        return {name: "{}" for _, name, _, must, usual, _ in columns if must and usual is None and name not in row}

    def flow(self) -> str:
        with sqlite3.connect(self.root / ".prefect/prefect.db") as database:
            database.execute("insert or ignore into flow (id, name, tags) values ('f', 'retrain', '[]')")
        return "f"

    def clean(self, last: int = 3, **options: Any) -> dict[str, Row]:
        return {row.what: row for row in collect(self.settings, last, **options)}

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.root), *AUTHOR, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def commit(self) -> None:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", "a night")

    def versions(self) -> set[str]:
        with self.tracker.talking() as (client, _):
            return {str(found.version) for found in client.search_model_versions("name = 'genmodel'")}

    def runs(self) -> set[str]:
        with self.tracker.talking() as (client, experiment):
            return {run.data.tags["genmodel.fingerprint"] for run in client.search_runs([experiment], run_view_type=3)}

    def folders(self) -> set[str]:
        return {path.parent.name for path in self.root.glob("runs/*/identity.json")}

    def size(self) -> dict[str, int]:
        """Files, their bytes and the rows of both databases."""
        files = [path for path in self.root.rglob("*") if path.is_file() and ".git" not in path.parts]
        found = {"files": len(files), "bytes": sum(path.stat().st_size for path in files), "rows": 0}
        for name in ("mlflow.db", ".prefect/prefect.db"):
            with sqlite3.connect(self.root / name) as database:
                tables = [row[0] for row in database.execute("select name from sqlite_master where type = 'table'")]
                for table in tables:
                    count = database.execute(f"select count(*) from {table}").fetchone()[0]
                    found["rows"] += count
        return found


def ago(days: float) -> datetime:
    return datetime.now(UTC) - timedelta(days=days)


def fresh() -> Nights:
    settings = Settings.read(os.environ, ROOT)
    return Nights(settings, Tracker(settings))


def prepare() -> None:
    for number in range(4):
        fresh().night(number)


def clean(point: int) -> None:
    die_at(point)
    fresh().clean(last=1)


def finish() -> None:
    found = fresh()
    found.clean(last=1)
    assert found.versions() == {"3", "4"} and len(found.runs()) == 2 and len(found.folders()) == 2
    assert len(list((ROOT / "mlartifacts/models").iterdir())) == 2
    assert not list(ROOT.glob("runs/.*"))
    assert versioning.changed(ROOT) == set()
    with found.tracker.talking() as (client, _):
        assert str(client.get_model_version_by_alias("genmodel", CHAMPION).version) == "4"


def die_at(point: int) -> None:
    """Kill this process before it removes or renames something for the `point`-th time."""
    count = iter(range(1, 10_000))

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*words: Any, **named: Any) -> Any:
            if next(count) == point:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*words, **named)

        return call

    for name in ("unlink", "remove", "rename", "rmdir"):
        setattr(os, name, watched(getattr(os, name)))


def in_child(work: Callable[[], object]) -> int | None:
    process = FORK.Process(target=work)
    process.start()
    process.join(60)
    return process.exitcode


def kill_at(points: list[int]) -> None:
    """Kill `flows.gc` in the working folder before the points at which it removes or renames something; each time the
    next one must end as if nothing had happened. Prints each point that was passed.

    All work is done by children, which must not inherit MLflow's connections; in a process of its own, without threads.
    """
    load_client()  # once, and not in each child
    import mlflow.store.model_registry.sqlalchemy_store
    import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

    assert in_child(prepare) == 0
    saved = ROOT.parent / "saved"
    shutil.copytree(ROOT, saved, symlinks=True)
    for point in points:
        shutil.rmtree(ROOT)
        shutil.copytree(saved, ROOT, symlinks=True)
        os.chdir(ROOT)
        assert in_child(lambda at=point: clean(at)) == -signal.SIGKILL, point  # type: ignore[misc]
        assert in_child(finish) == 0, point
        print(point, flush=True)


if __name__ == "__main__":
    kill_at([int(word) for word in sys.argv[1:]])
