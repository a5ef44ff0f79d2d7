"""Who is champion: promotions that race and are killed, rollback, and the ledger that tells of all of them."""

import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
from collections import Counter
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.champion import ROLLED_BACK, Promotions
from flows.console import row
from flows.ledger import Ledger
from flows.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry, Version
from flows.settings import Settings
from flows.tracking import Tracker
from genmodel.config import GateConfig
from genmodel.errors import ModelError, TrackingError
from genmodel.evaluation.gate import Decision, decide

FORK = multiprocessing.get_context("fork")
GATE = GateConfig(margin=0.013)
CONDITIONS = {"extractor": {"name": "classifier", "fingerprint": "e" * 64}}


class Weightless(Registry):
    """A registry whose versions hold no models, for what is only about aliases; `broken` ones do not load."""

    broken: frozenset[str] = frozenset()

    def try_out(self, version: Version) -> str:
        if version.number in self.broken:
            raise ModelError(f"version {version.number} of genmodel does not load and generate")
        return "It loads from the registry and generates."


def make_versions(settings: Settings, number: int) -> list[Version]:
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    client.create_registered_model("genmodel")
    for n in range(1, number + 1):
        client.create_model_version("genmodel", "file:///nowhere", tags={"genmodel.weights": f"{n:064}"})
    return [Version(str(n), "", {"genmodel.weights": f"{n:064}"}) for n in range(1, number + 1)]


def report(number: str, distance: float) -> dict[str, Any]:
    figures = {"fd_classifier": distance}
    return {"name": f"model-{number}", "weights": f"{int(number):064}", "conditions": CONDITIONS, "figures": figures}


def settle(registry: Registry, root: Path, candidate: Version, distances: dict[str, float]) -> dict[str, Any]:
    """What the stage `register` does about a candidate."""
    mine = report(candidate.number, distances[candidate.number])

    def judge(against: Version | None) -> Decision:
        return decide(mine, None if against is None else report(against.number, distances[against.number]), GATE)

    return Promotions(registry, Ledger(root)).settle(candidate, {"report": mine}, judge)


def aliases(settings: Settings) -> dict[str, str]:
    """As the database has them: this process keeps no connection that a child could inherit."""
    with sqlite3.connect(settings.root / "mlflow.db") as database:
        return {alias: str(v) for alias, v in database.execute("select alias, version from registered_model_aliases")}


def tags(settings: Settings, number: str) -> dict[str, str]:
    with sqlite3.connect(settings.root / "mlflow.db") as database:
        return dict(database.execute("select key, value from model_version_tags where version = ?", (number,)))


# Races


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
    for name in ("set_registered_model_alias", "set_model_version_tag", "delete_model_version_tag"):
        setattr(MlflowClient, name, watched(getattr(MlflowClient, name)))


def _compete(
    settings: Settings, candidate: Version, distances: dict[str, float], start: Event, point: int | None
) -> None:
    registry = Weightless(Tracker(settings))
    registry.version(CHAMPION)  # connected
    start.wait()
    if point is not None:
        _die_at(point)
    settle(registry, settings.root, candidate, distances)


def race(settings: Settings, rivals: list[Version], distances: dict[str, float], points: list[int | None]) -> list[int]:
    """The exit codes of promotions that start together; a point is where one is killed."""
    start = FORK.Event()
    processes = [
        FORK.Process(target=_compete, args=(settings, rival, distances, start, point))
        for rival, point in zip(rivals, points, strict=True)
    ]
    for process in processes:
        process.start()
    start.set()
    for process in processes:
        process.join()
    return [process.exitcode or 0 for process in processes]


ALWAYS, WHEN_PROMOTED = 18, 24  # three a write: candidate, ledger, three tags, [previous, champion,] ledger


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_of_a_hundred_races_with_kills_the_better_model_comes_out_as_champion(
    tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    settings = Settings.read({}, tmp_path)
    with FORK.Pool(1) as pool:
        versions = pool.apply(make_versions, (settings, 201))
    choose, distances, best = random.Random(7), {"1": 1000.0}, versions[0]
    assert race(settings, [best], distances, [None]) == [0]
    for number in range(100):
        rivals = versions[1 + 2 * number : 3 + 2 * number]
        scale = distances[best.number]
        distances |= {rival.number: scale * choose.choice([0.7, 0.8, 0.9, 1.2, 1.3]) for rival in rivals[:1]}
        distances[rivals[1].number] = distances[rivals[0].number] * choose.choice([0.95, 1.06])
        winner = min([best, *rivals], key=lambda version: distances[version.number])
        point = number % (WHEN_PROMOTED if winner == rivals[0] else ALWAYS)
        assert race(settings, rivals, distances, [point, None]) == [-signal.SIGKILL, 0], (number, point)
        assert race(settings, rivals[:1], distances, [None]) == [0]  # the next command, as a person gives it again
        found = aliases(settings)
        assert found[CHAMPION] == winner.number, (number, point)
        events = Ledger(tmp_path).events()
        kinds = Counter(event["event"] for event in events)
        assert kinds["decided"] == kinds["done"] and not kinds["void"], "each decision was carried out, once"
        told = {event["version"]: event["decision"]["outcome"] for event in events if event["event"] == "decided"}
        assert {rival.number for rival in rivals} <= told.keys()
        assert all(tags(settings, rival.number)["genmodel.decision"] == told[rival.number] for rival in rivals)
        champions = [event["after"]["champion"]["version"] for event in events if event["event"] == "decided"]
        line = [champion for champion, _ in itertools.groupby(champions)]
        assert found.get(PREVIOUS) == (line[-2] if len(line) > 1 else None)
        best = winner
    assert len(set(champions)) > 30, "the champion changed often"


# One after another


@pytest.fixture
def registry(settings: Settings) -> Weightless:
    return Weightless(Tracker(settings))


def test_each_outcome_is_tagged_and_in_the_ledger(registry: Weightless, settings: Settings) -> None:
    distances = {"1": 10.0, "2": 20.0, "3": 10.05, "4": 5.0}
    versions = make_versions(settings, 4)
    outcomes = [settle(registry, settings.root, version, distances)["outcome"] for version in versions]
    assert outcomes == ["promote", "reject", "inconclusive", "promote"]
    assert aliases(settings) == {CANDIDATE: "4", CHAMPION: "4", PREVIOUS: "1"}
    events = Ledger(settings.root).events()
    assert [event["event"] for event in events] == ["decided", "done"] * 4
    for version, outcome in zip(versions, outcomes, strict=True):
        found = tags(settings, version.number)
        assert found["genmodel.decision"] == outcome and "fd_classifier" in found["genmodel.reasons"]
    assert "\\u" not in (settings.root / "promotions.jsonl").read_text()
    checks = events[0]["decision"]["checks"]
    assert {"name": "loads", "passed": True, "says": "It loads from the registry and generates."} in checks


def test_the_same_request_is_answered_as_before_and_changes_nothing(registry: Weightless, settings: Settings) -> None:
    (first, second), distances = make_versions(settings, 2), {"1": 10.0, "2": 5.0}
    settle(registry, settings.root, first, distances)
    told = settle(registry, settings.root, second, distances)
    before = (settings.root / "promotions.jsonl").read_bytes()
    assert settle(registry, settings.root, second, distances) == told and told["outcome"] == "promote"
    assert (settings.root / "promotions.jsonl").read_bytes() == before
    again = settle(registry, settings.root, second, distances | {"2": 4.0})
    assert again["outcome"] == "inconclusive" and "Unchanged" in again["reasons"][0], "other figures, another request"


def test_a_better_model_that_does_not_load_is_rejected(registry: Weightless, settings: Settings) -> None:
    (first, second), distances = make_versions(settings, 2), {"1": 10.0, "2": 5.0}
    settle(registry, settings.root, first, distances)
    registry.broken = frozenset("2")
    decision = settle(registry, settings.root, second, distances)
    assert decision["outcome"] == "reject" and "version 2 of genmodel does not load" in decision["reasons"][-1]
    assert aliases(settings)[CHAMPION] == "1"


def test_a_registry_that_cannot_be_reached_rejects_nobody(
    registry: Weightless, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = make_versions(settings, 1)

    def away(_: Version) -> str:
        raise TrackingError("cannot reach the tracking server")

    with monkeypatch.context() as patch:
        patch.setattr(registry, "try_out", away)
        with pytest.raises(TrackingError, match="cannot reach"):
            settle(registry, settings.root, first, {"1": 10.0})
    assert Ledger(settings.root).events() == []
    assert settle(registry, settings.root, first, {"1": 10.0})["outcome"] == "promote"


def test_an_alias_that_is_moved_by_hand_while_the_gate_judges_is_noticed(
    registry: Weightless, settings: Settings
) -> None:
    versions, distances = make_versions(settings, 3), {"1": 10.0, "2": 8.0, "3": 1.0}
    settle(registry, settings.root, versions[0], distances)
    asked: list[str] = []

    def judge(against: Version | None) -> Decision:
        assert against is not None
        asked.append(against.number)
        registry.set_alias(CHAMPION, "3")
        return decide(report("2", distances["2"]), report(against.number, distances[against.number]), GATE)

    decision = Promotions(registry, Ledger(settings.root)).settle(versions[1], {"report": 2}, judge)
    assert (asked, decision["outcome"]) == (["1", "3"], "reject")
    assert aliases(settings)[CHAMPION] == "3"


def test_a_decision_that_cannot_be_carried_out_any_more_is_void(
    registry: Weightless, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first, second, _), distances = make_versions(settings, 3), {"1": 10.0, "2": 5.0, "3": 20.0}
    settle(registry, settings.root, first, distances)
    with monkeypatch.context() as patch:
        patch.setattr(Promotions, "_apply", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            settle(registry, settings.root, second, distances)
    registry.set_alias(CHAMPION, "3")
    assert settle(registry, settings.root, second, distances)["outcome"] == "promote", "against the third, anew"
    events = Ledger(settings.root).events()
    assert [event["event"] for event in events] == ["decided", "done", "decided", "void", "decided", "done"]
    assert events[3]["reason"] == "the alias was moved by hand"
    assert aliases(settings) == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "3"}


def test_a_decision_about_another_registry_is_void(registry: Weightless, settings: Settings) -> None:
    open_one = {"version": "9", "weights": "9" * 64}
    event = {"id": "x", "event": "decided", "time": "t", "kind": "promotion", "version": "9", "before": None}
    Ledger(settings.root).append({**event, "after": {"champion": open_one, "previous": None}, "decision": {}})
    (first,) = make_versions(settings, 1)
    assert settle(registry, settings.root, first, {"1": 10.0})["outcome"] == "promote"
    assert Ledger(settings.root).events()[1]["reason"] == "version 9 is not in this registry"


# Rollback


def test_rollback_puts_the_previous_one_back_and_keeps_the_other_out(registry: Weightless, settings: Settings) -> None:
    versions, distances = make_versions(settings, 3), {"1": 10.0, "2": 5.0, "3": 2.0}
    promotions = Promotions(registry, Ledger(settings.root))
    with pytest.raises(TrackingError, match="no previous champion to put back"):
        promotions.roll_back("why not")
    settle(registry, settings.root, versions[0], distances)
    with pytest.raises(TrackingError, match="no previous champion to put back"):
        promotions.roll_back("why not")
    settle(registry, settings.root, versions[1], distances)

    registry.broken = frozenset("1")
    with pytest.raises(ModelError, match="version 1 of genmodel does not load"):
        promotions.roll_back("it paints noise")
    assert aliases(settings) == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "1"}
    registry.broken = frozenset()
    now, gone = promotions.roll_back("it paints noise")
    assert (now.number, gone.number) == ("1", "2")
    assert aliases(settings) == {CANDIDATE: "2", CHAMPION: "1", PREVIOUS: "2"}
    assert tags(settings, "2")[ROLLED_BACK].endswith("it paints noise")

    decision = settle(registry, settings.root, versions[1], distances)
    assert decision["outcome"] == "reject" and "was rolled back" in decision["reasons"][-1]
    assert settle(registry, settings.root, versions[2], distances)["outcome"] == "promote", "another model may"

    promotions.roll_back("back to the first")
    promotions.roll_back("no, the third after all")
    assert aliases(settings)[CHAMPION] == "3" and ROLLED_BACK not in tags(settings, "3")
    rows = [row(event) for event in promotions.history()]
    assert [(what, version, now) for _, what, version, _, now, _ in rows] == [
        ("promote", "1", "1"),
        ("promote", "2", "2"),
        ("rollback", "1", "1"),
        ("reject", "2", "1"),
        ("promote", "3", "3"),
        ("rollback", "1", "1"),
        ("rollback", "3", "3"),
    ]
    assert [why for *_, why in rows][2] == "it paints noise"


@pytest.mark.parametrize("point", range(18))  # ledger, two tags, two aliases, ledger
def test_a_rollback_that_is_killed_is_finished_by_the_next_command(
    point: int, tmp_path: Path, empty_database: Path
) -> None:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    settings, distances = Settings.read({}, tmp_path), {"1": 10.0, "2": 5.0}

    def prepare() -> None:
        registry = Weightless(Tracker(settings))
        for version in make_versions(settings, 2):
            settle(registry, tmp_path, version, distances)

    def roll_back(die: bool) -> None:
        promotions = Promotions(Weightless(Tracker(settings)), Ledger(tmp_path))
        if die:
            _die_at(point)
            promotions.roll_back("bad")
        assert [event["kind"] for event in promotions.history()].count("rollback") == (point >= 2)

    for target, arguments, expected in ((prepare, (), 0), (roll_back, (True,), -9), (roll_back, (False,), 0)):
        process = FORK.Process(target=target, args=arguments)
        process.start()
        process.join()
        assert process.exitcode == expected
    rolled = point >= 2  # before, no whole line had been written
    assert aliases(settings)[CHAMPION] == ("1" if rolled else "2")
    assert aliases(settings)[PREVIOUS] == ("2" if rolled else "1")


# The ledger


def test_a_line_that_was_cut_off_is_forgotten_and_a_damaged_one_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    assert ledger.events() == []
    one, two = ({"id": n, "event": "done", "time": "t"} for n in ("one", "two"))
    ledger.append(one)
    with ledger.path.open("ab") as handle:
        handle.write(b'{"id": "cut')
    assert ledger.events() == [one]
    ledger.append(two)
    assert ledger.events() == [one, two]
    assert ledger.path.read_text().splitlines() == [json.dumps(event, sort_keys=True) for event in (one, two)]
    ledger.path.write_text(ledger.path.read_text().replace('"event"', '"evnt"', 1))
    with pytest.raises(TrackingError, match=r"promotions.jsonl, line 1 is damaged"):
        ledger.events()
