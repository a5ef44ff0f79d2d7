"""`gate.approval: manual`: a promotion waits for a person's word, which may come from another machine."""

import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from flows.registry.approval import approve, refuse
from flows.registry.champion import REFUSED, Promotions
from flows.registry.console import row
from flows.registry.promotions import Ledger
from flows.registry.registry import CANDIDATE, CHAMPION, PENDING, PREVIOUS
from genmodel.errors import ModelError, TrackingError


@pytest.fixture
def manual(scene: Any) -> Any:
    """Version 1 is champion; from then on the gate leaves promotions to a person."""
    scene.versions(10.0, 5.0, 7.0, 20.0)
    scene.settle(scene.registry.find("1"))
    scene.gate = replace(scene.gate, approval="manual")
    return scene


def say(scene: Any, word: Callable[..., Any], number: str, reason: str = "I looked at it") -> Any:
    return word(scene.registry, scene.promotions, number, "ada@lab", reason)


def test_a_promotion_waits_until_a_person_approves_it(manual: Any) -> None:
    second = manual.registry.find("2")
    told = manual.settle(second)
    assert told.outcome == "pending" and "registry approve 2 --reason TEXT" in told.reasons[-1]
    assert {check.name: check.passed for check in told.checks if check.name == "loads"} == {"loads": True}
    assert manual.aliases() == {CANDIDATE: "2", CHAMPION: "1", PENDING: "2"}
    assert manual.tags("2")["genmodel.decision"] == "pending"
    assert manual.settle(second) == told and len(manual.promotions.history()) == 2, "asked again, nothing piles up"

    champion, former = say(manual, approve, "pending")
    assert (champion.number, former) == ("2", "1")
    assert manual.aliases() == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "1"}
    again = manual.settle(second)
    assert again.outcome == "promote" and again.reasons[1:] == ["Approved by ada@lab: I looked at it"]
    last = manual.promotions.history()[-1]
    assert (last["kind"], last["by"], last["reason"]) == ("approval", "ada@lab", "I looked at it")
    assert row(last)[1:5] == ["approval", "2", "model-2", "2"] and "ada@lab" in row(last)[-1]
    with pytest.raises(TrackingError, match="version 2 does not wait for a word, no version does"):
        say(manual, approve, "2")


def test_a_refused_version_is_not_promoted_by_the_next_run_and_may_be_approved_after_all(manual: Any) -> None:
    second = manual.registry.find("2")
    manual.settle(second)
    assert say(manual, refuse, "2", "extra fingers").number == "2"
    assert manual.aliases() == {CANDIDATE: "2", CHAMPION: "1"}
    assert "extra fingers (ada@lab)" in manual.tags("2")[REFUSED]
    told = manual.settle(second)
    assert told.outcome == "reject" and told.reasons[-1] == "Refused by ada@lab: extra fingers"
    manual.distances["2"] = 4.0  # other figures: another request about the same weights
    assert "was refused: " in manual.settle(manual.registry.find("2")).reasons[-1]
    with pytest.raises(TrackingError, match="version 2 does not wait"):
        say(manual, refuse, "2")


def test_a_refusal_is_undone_while_the_champion_stays(manual: Any) -> None:
    manual.settle(manual.registry.find("2"))
    say(manual, refuse, "2")
    say(manual, approve, "2", "they are gloves")
    assert manual.aliases()[CHAMPION] == "2" and REFUSED not in manual.tags("2")


def test_the_last_one_waits_and_a_worse_one_does_not_end_the_wait(manual: Any) -> None:
    manual.settle(manual.registry.find("2"))
    assert manual.settle(manual.registry.find("4")).outcome == "reject"
    assert manual.aliases()[PENDING] == "2"
    assert manual.settle(manual.registry.find("3")).outcome == "pending"
    assert manual.aliases()[PENDING] == "3" and manual.tags("2")["genmodel.decision"] == "superseded"
    with pytest.raises(TrackingError, match="version 2 does not wait for a word, version 3 does"):
        say(manual, approve, "2")


def test_a_word_about_another_champion_than_was_compared_changes_nothing(manual: Any) -> None:
    manual.settle(manual.registry.find("2"))
    manual.registry.set_alias(CHAMPION, "4")
    with pytest.raises(TrackingError, match=r"compared with version 1, and now version 4 is champion.*flows.retrain"):
        say(manual, approve, "2")
    assert manual.aliases()[CHAMPION] == "4"
    manual.promotions.retire("a new line")
    assert PENDING not in manual.aliases(), "the champion that it was compared with is gone"


def test_a_version_that_no_longer_loads_is_not_approved(manual: Any) -> None:
    manual.settle(manual.registry.find("2"))
    registry = manual.registry
    registry.broken = frozenset("2")
    with pytest.raises(ModelError, match="version 2 of genmodel does not load"):
        approve(registry, Promotions(registry, manual.ledger), "2", "ada@lab", "blind")
    assert manual.aliases()[CHAMPION] == "1" and manual.aliases()[PENDING] == "2"


def test_a_first_champion_waits_too(scene: Any) -> None:
    (first,) = scene.versions(10.0)
    scene.gate = replace(scene.gate, approval="manual")
    assert scene.settle(first).outcome == "pending" and CHAMPION not in scene.aliases()
    assert say(scene, approve, "1")[1] is None and scene.aliases() == {CANDIDATE: "1", CHAMPION: "1"}


def test_a_word_from_another_clone(manual: Any) -> None:
    """The ledger of the run is on another machine: what waits is known to the registry."""
    second = manual.registry.find("2")
    manual.settle(second)
    (manual.root / "other").mkdir()
    there = Promotions(manual.registry, Ledger(manual.root / "other"))
    approve(manual.registry, there, "2", "bob@home", "fine")
    kinds = [(event["kind"], event.get("by")) for event in manual.promotions.history()]
    assert kinds == [("promotion", None), ("promotion", None), ("approval", "bob@home")], "history is the registry's"
    assert [event["id"] for event in there.history()] == [event["id"] for event in manual.promotions.history()]
    assert "Unchanged" in manual.settle(second).reasons[0]


@pytest.mark.fault("kill -9 of a promotion")
def test_an_approval_that_is_killed_is_finished_by_the_next_command(
    unconnected: Any, in_children: Callable[..., list[int]], die_at: Callable[[int], None]
) -> None:
    root, state = unconnected.root, ("mlflow.db", "promotions.jsonl")

    def prepare() -> None:
        first, second = unconnected.versions(10.0, 5.0)
        unconnected.settle(first)
        unconnected.gate = replace(unconnected.gate, approval="manual")
        unconnected.settle(second)

    def word(point: int) -> None:
        die_at(point)
        say(unconnected, approve, "2")

    def finish(given: bool) -> None:
        history = unconnected.promotions.history()
        assert [event["kind"] for event in history].count("approval") == given

    assert in_children(prepare) == [0]
    for name in state:
        shutil.copy(root / name, root / f"{name}.before")
    for point in range(0, 42, 5):  # three a write: ledger, its digest, five tags, two aliases, a tag, an alias, ...
        for name in state:
            shutil.copy(root / f"{name}.before", root / name)
        assert in_children(lambda at=point: word(at)) == [-signal.SIGKILL], point  # type: ignore[misc]
        given = point >= 2  # before, no whole line had been written
        assert in_children(lambda was=given: finish(was)) == [0], point  # type: ignore[misc]
        after = {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "1"}
        assert unconnected.aliases() == (after if given else {CANDIDATE: "2", CHAMPION: "1", PENDING: "2"}), point
