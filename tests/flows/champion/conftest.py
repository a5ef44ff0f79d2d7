"""A registry whose versions hold no models, its ledger, and processes that are killed while they write to both."""

import itertools
import multiprocessing
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.registry.champion import Promotions
from flows.registry.promotions import Ledger
from flows.registry.registry import Registry, Version
from flows.settings import Settings
from flows.tracking import Tracker
from genmodel.errors import ModelError
from genmodel.evaluation.gate import Champion, Decision, decide
from genmodel.evaluation.report import Report
from genmodel.settings.config import GateConfig
from tests.reports import made_report

FORK = multiprocessing.get_context("fork")
GATE = GateConfig(margin=0.013)


class Weightless(Registry):
    """Versions hold no models, for what is only about aliases; `broken` ones do not load."""

    broken: frozenset[str] = frozenset()

    def try_out(self, version: Version) -> str:
        if version.number in self.broken:
            raise ModelError(f"version {version.number} of genmodel does not load and generate")
        return "It loads from the registry and generates."


class Scene:
    """What the tests do with versions of given distances; a smaller distance is a better model."""

    def __init__(self, settings: Settings, distances: dict[str, float] | None = None) -> None:
        self.settings, self.root = settings, settings.root
        self.distances = distances or {}  # by version number
        self.gate = GATE

    @cached_property
    def registry(self) -> Weightless:
        """Connected on first use: a process that forks must not have a connection that its children inherit."""
        return Weightless(Tracker(self.settings))

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.root)

    @property
    def promotions(self) -> Promotions:
        return Promotions(self.registry, self.ledger)

    def versions(self, *distances: float) -> list[Version]:
        """New versions, one of each distance, numbered from 1."""
        client = MlflowClient(self.settings.tracking_uri, self.settings.tracking_uri)
        client.create_registered_model("genmodel")
        numbers = range(1, len(distances) + 1)
        for n, distance in zip(numbers, distances, strict=True):
            client.create_model_version("genmodel", "s3://nowhere/model", tags={"genmodel.weights": f"{n:064}"})
            self.distances[str(n)] = distance
        return [Version(str(n), "", {"genmodel.weights": f"{n:064}"}) for n in numbers]

    def settle(self, candidate: Version) -> Decision:
        """What the stage `register` does about a candidate."""
        report = self._report(candidate.number)
        return self.promotions.settle(candidate, {"report": report.as_dict()}, lambda best: self.judge(candidate, best))

    def judge(self, candidate: Version, against: Version | None) -> Decision:
        best = None if against is None else self._report(against.number)
        champion = best and Champion(name=best.name, weights=best.weights, judged=best)
        return decide(self._report(candidate.number), champion, self.gate)

    def _report(self, number: str) -> Report:
        weights, figures = f"{int(number):064}", {"fd_classifier": self.distances[number]}
        return made_report(f"model-{number}", figures, weights=weights)

    def aliases(self) -> dict[str, str]:
        """As the database has them, without a connection through MLflow."""
        rows = self._ask("select alias, version from registered_model_aliases")
        return {alias: str(version) for alias, version in rows}

    def tags(self, number: str) -> dict[str, str]:
        return dict(self._ask("select key, value from model_version_tags where version = ?", number))

    def model_tags(self) -> dict[str, str]:
        return dict(self._ask("select key, value from registered_model_tags"))

    def _ask(self, query: str, *values: str) -> list[Any]:
        with sqlite3.connect(self.root / "mlflow.db") as database:
            return database.execute(query, values).fetchall()


@pytest.fixture
def scene(settings: Settings) -> Scene:
    return Scene(settings)


@pytest.fixture
def unconnected(tmp_path: Path, empty_database: Path) -> Scene:
    """For tests whose work is done by children of this process, which has to keep away from MLflow."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return Scene(Settings.read({}, tmp_path))


@pytest.fixture
def in_children() -> Callable[..., list[int]]:
    return _in_children


def _in_children(*works: Callable[[], object], first: Callable[[], object] = lambda: None) -> list[int]:
    """The exit codes of processes that have done `first` each and then start their works together."""
    start = FORK.Event()

    def wait_and(work: Callable[[], object]) -> None:
        first()
        start.wait()
        work()
        os._exit(0)  # at an ordinary exit, libraries of the parent (Dask's, say) would end here what is the parent's

    processes = [FORK.Process(target=wait_and, args=(work,)) for work in works]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    return [process.exitcode or 0 for process in processes]


@pytest.fixture
def die_at() -> Callable[[int], None]:
    return _die_at


def _die_at(point: int) -> None:
    """Kill this process at its n-th write to the ledger or to MLflow: before it, half-way through it, or after it."""
    write, place = divmod(point, 3)
    count = itertools.count()

    def watched(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            if next(count) != write:
                return original(*arguments, **named)
            if place == 1 and original is os_write:  # of a line of the ledger; MLflow's database does this by itself
                original(arguments[0], arguments[1][: len(arguments[1]) // 2])
            if place == 2:
                original(*arguments, **named)
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError("killed")

        return call

    os_write = os.write
    os.write = watched(os_write)
    for name in (
        "set_registered_model_alias",
        "set_registered_model_tag",
        "delete_registered_model_tag",
        "delete_registered_model_alias",
        "set_model_version_tag",
        "delete_model_version_tag",
    ):
        setattr(MlflowClient, name, watched(getattr(MlflowClient, name)))
