"""Who becomes champion: outcomes, requests that come again, and what changes while a decision is made."""

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest

from flows.registry.champion import Promotions
from flows.registry.promotions import Ledger
from flows.registry.registry import CANDIDATE, CHAMPION, PREVIOUS, Version
from flows.versioning.locks import held
from genmodel.errors import TrackingError
from genmodel.evaluation.gate import Decision


def test_each_outcome_is_tagged_and_in_the_ledger(scene: Any) -> None:
    versions = scene.versions(10.0, 20.0, 10.05, 5.0)
    outcomes = [scene.settle(version).outcome for version in versions]
    assert outcomes == ["promote", "reject", "inconclusive", "promote"]
    assert scene.aliases() == {CANDIDATE: "4", CHAMPION: "4", PREVIOUS: "1"}
    events = scene.ledger.events()
    assert [event["event"] for event in events] == ["decided", "done"] * 4
    for version, outcome in zip(versions, outcomes, strict=True):
        found = scene.tags(version.number)
        assert found["genmodel.decision"] == outcome and "fd_classifier" in found["genmodel.reasons"]
    assert "\\u" not in (scene.root / "promotions.jsonl").read_text()
    checks = events[0]["decision"]["checks"]
    assert {"name": "loads", "passed": True, "says": "It loads from the registry and generates."} in checks


def test_the_same_request_is_answered_as_before_and_changes_nothing(scene: Any) -> None:
    first, second = scene.versions(10.0, 5.0)
    scene.settle(first)
    told = scene.settle(second)
    before = (scene.root / "promotions.jsonl").read_bytes()
    assert scene.settle(second) == told and told.outcome == "promote"
    assert (scene.root / "promotions.jsonl").read_bytes() == before
    scene.distances["2"] = 4.0
    again = scene.settle(second)
    assert again.outcome == "inconclusive" and "Unchanged" in again.reasons[0], "other figures, another request"


def test_a_better_model_that_does_not_load_is_rejected(scene: Any) -> None:
    first, second = scene.versions(10.0, 5.0)
    scene.settle(first)
    scene.registry.broken = frozenset("2")
    decision = scene.settle(second)
    assert decision.outcome == "reject" and "version 2 of genmodel does not load" in decision.reasons[-1]
    assert scene.aliases()[CHAMPION] == "1"


def test_a_registry_that_cannot_be_reached_rejects_nobody(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (first,) = scene.versions(10.0)

    def away(_: Version) -> str:
        raise TrackingError("cannot reach the tracking server")

    with monkeypatch.context() as patch:
        patch.setattr(scene.registry, "try_out", away)
        with pytest.raises(TrackingError, match="cannot reach"):
            scene.settle(first)
    assert scene.ledger.events() == []
    assert scene.settle(first).outcome == "promote"


def test_an_alias_that_is_moved_by_hand_while_the_gate_judges_is_noticed(scene: Any) -> None:
    first, second, _ = scene.versions(10.0, 8.0, 1.0)
    scene.settle(first)
    asked: list[str] = []

    def judge(against: Version | None) -> Decision:
        assert against is not None
        asked.append(against.number)
        scene.registry.set_alias(CHAMPION, "3")
        judged: Decision = scene.judge(second, against)
        return judged

    decision = scene.promotions.settle(second, {"report": 2}, judge)
    assert (asked, decision.outcome) == (["1", "3"], "reject")
    assert scene.aliases()[CHAMPION] == "3"


def test_a_decision_that_cannot_be_carried_out_any_more_is_void(scene: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _ = scene.versions(10.0, 5.0, 20.0)
    scene.settle(first)
    with monkeypatch.context() as patch:
        patch.setattr(Promotions, "_apply", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            scene.settle(second)
    scene.registry.set_alias(CHAMPION, "3")
    assert scene.settle(second).outcome == "promote", "against the third, anew"
    events = scene.ledger.events()
    assert [event["event"] for event in events] == ["decided", "done", "decided", "void", "decided", "done"]
    assert events[3]["reason"] == "the alias was moved by hand, or by another project"
    assert scene.aliases() == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "3"}


def test_a_decision_about_another_registry_is_void(scene: Any) -> None:
    open_one = {"version": "9", "weights": "9" * 64}
    event = {"id": "x", "event": "decided", "time": "t", "kind": "promotion", "version": "9", "before": None}
    scene.ledger.append({**event, "after": {"champion": open_one, "previous": None}, "decision": {}})
    (first,) = scene.versions(10.0)
    assert scene.settle(first).outcome == "promote"
    assert scene.ledger.events()[1]["reason"] == "version 9 is not in this registry"


def test_a_retired_champion_makes_way_for_a_new_line(scene: Any) -> None:
    old, second, new = scene.versions(5.0, 4.0, 50.0)
    with pytest.raises(TrackingError, match="there is no champion to retire: nothing was changed"):
        scene.promotions.retire("why not")
    scene.settle(old)
    scene.settle(second)
    assert scene.settle(new).outcome == "reject"
    assert scene.promotions.retire("photos of another size").number == "2"
    assert scene.aliases() == {CANDIDATE: "3", PREVIOUS: "2"}, "the version itself is kept"
    now, gone = scene.promotions.roll_back("it was a mistake")
    assert (now.number, gone, scene.aliases()) == ("2", None, {CANDIDATE: "3", CHAMPION: "2"})
    scene.promotions.retire("photos of another size")
    assert scene.settle(new).outcome == "promote", "the same request is not answered from before"
    assert scene.aliases() == {CANDIDATE: "3", CHAMPION: "3"}, "and no rollback mixes the two lines"
    kinds = [event["kind"] for event in scene.promotions.history()]
    assert kinds == ["promotion"] * 3 + ["retirement", "rollback", "retirement", "promotion"]


def test_an_answer_holds_in_its_own_registry_alone(scene: Any, empty_database: Path) -> None:
    """mlflow.db is lost, or MLFLOW_TRACKING_URI is another: a version of the same number and weights is a new one."""
    (first,) = scene.versions(10.0)
    told = scene.settle(first)
    request = {"report": scene._report("1").as_dict()}
    assert scene.promotions.standing(request, first.tags["genmodel.weights"]) == told
    assert scene.promotions.standing(request, "other weights") is None
    shutil.copy(empty_database, scene.root / "mlflow.db")
    fresh = type(scene)(scene.settings)
    assert fresh.promotions.standing(request, first.tags["genmodel.weights"]) is None
    fresh.versions(10.0)
    assert fresh.promotions.standing(request, first.tags["genmodel.weights"]) is None
    assert fresh.settle(first).outcome == "promote" and fresh.aliases() == {CANDIDATE: "1", CHAMPION: "1"}


def test_a_refusal_holds_in_its_own_registry_alone(scene: Any, empty_database: Path) -> None:
    """Neither has a champion: only the version itself tells that it was this registry's that was decided on."""
    (first,) = scene.versions(10.0)
    scene.registry.broken = frozenset({"1"})
    told = scene.settle(first)
    assert told.outcome == "reject"
    request = {"report": scene._report("1").as_dict()}
    assert scene.promotions.standing(request, first.tags["genmodel.weights"]) == told
    shutil.copy(empty_database, scene.root / "mlflow.db")
    fresh = type(scene)(scene.settings)
    fresh.versions(10.0)
    assert fresh.promotions.standing(request, first.tags["genmodel.weights"]) is None
    assert fresh.settle(first).outcome == "promote"


def test_nobody_waits_while_a_champion_is_judged(scene: Any) -> None:
    first, second = scene.versions(10.0, 5.0)
    scene.settle(first)
    judging, done = threading.Event(), threading.Event()

    def slow(against: Version | None) -> Decision:
        judging.set()
        done.wait(60)
        judged: Decision = scene.judge(second, against)
        return judged

    register = threading.Thread(target=scene.promotions.settle, args=(second, {"report": 2}, slow))
    register.start()
    assert judging.wait(30)
    started = time.monotonic()
    history = type(scene)(scene.settings).promotions.history()
    waited = time.monotonic() - started
    done.set()
    register.join()
    assert len(history) == 1 and waited < 2
    assert scene.aliases()[CHAMPION] == "2"


def test_who_waits_for_a_lock_says_for_whom_and_not_for_ever(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mlflow.db.promotion"
    code = "import sys; from pathlib import Path; from flows.versioning import locks\n"
    code += "with locks.held(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    holder = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=PIPE, stdout=PIPE, text=True)
    assert holder.stdout is not None and holder.stdin is not None and holder.stdout.readline() == "held\n"
    with pytest.raises(TrackingError, match=rf"held for \d+ s by process {holder.pid} \(python -c"), held(path, 2.5):
        pass
    said = capfd.readouterr().err
    assert said.startswith(f"waiting for mlflow.db.promotion, which process {holder.pid} (") and said.count("\n") == 1
    holder.stdin.close()
    assert holder.wait(30) == 0
    with held(path):
        assert str(os.getpid()) in path.read_text()


def test_a_decision_that_an_older_version_wrote_in_other_words_is_made_anew(scene: Any) -> None:
    (first,) = scene.versions(10.0)
    told = scene.settle(first)
    path = scene.root / "promotions.jsonl"
    request = {"report": scene._report("1").as_dict()}
    assert scene.promotions.standing(request, first.tags["genmodel.weights"]) == told
    events = [{key: value for key, value in event.items() if key != "chain"} for event in scene.ledger.events()]
    events[0]["decision"] = {"outcome": "promote", "reasons": []}
    path.unlink()
    for event in events:
        scene.ledger.append(event)
    assert scene.promotions.standing(request, first.tags["genmodel.weights"]) is None
    assert scene.settle(first).outcome == "inconclusive"


@pytest.mark.fault("damaged ledger of promotions")
def test_a_ledger_that_lost_lines_at_its_end_is_noticed(scene: Any, tmp_path: Path) -> None:
    first, second = scene.versions(10.0, 5.0)
    scene.settle(first)
    scene.settle(second)
    whole = scene.ledger.path.read_bytes()
    lines = whole.splitlines(keepends=True)
    looks = [scene.promotions.history, lambda: scene.settle(second), lambda: scene.promotions.roll_back("it is worse")]
    for kept in range(1, len(lines)):
        scene.ledger.path.write_bytes(b"".join(lines[:kept]))
        for look in looks:
            with pytest.raises(TrackingError, match=r"promotions.jsonl ends too early: .*mv promotions.jsonl"):
                look()
    assert scene.aliases() == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "1"}

    scene.ledger.path.write_bytes(whole)
    other = Promotions(scene.registry, Ledger(tmp_path / "other"))  # of another project, with the same registry
    other._ledger.path.parent.mkdir()
    other.retire("another project wants another line")
    assert len(scene.promotions.history()) == len(other.history()) == 3, "those of both"
    assert len(scene.ledger.events()) == 4 and len(other._ledger.events()) == 2
    shutil.copy(scene.ledger.path, other._ledger.path)  # a copied project goes on in its own way
    other.roll_back("it was better")
    assert len(scene.promotions.history()) == len(other.history()) == 4

    scene.ledger.path.rename(scene.ledger.path.with_suffix(".damaged"))  # as the error says
    assert scene.settle(first).outcome == "reject" and len(scene.ledger.events()) == 2
