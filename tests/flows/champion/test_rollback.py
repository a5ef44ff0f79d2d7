"""The previous champion is put back, the other one kept out, whenever the command is killed."""

import shutil
import signal
from collections.abc import Callable
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.registry.champion import ROLLED_BACK
from flows.registry.console import row
from flows.registry.registry import CANDIDATE, CHAMPION, PREVIOUS
from genmodel.errors import ModelError, TrackingError


def test_rollback_puts_the_previous_one_back_and_keeps_the_other_out(scene: Any) -> None:
    versions, promotions = scene.versions(10.0, 5.0, 2.0), scene.promotions
    with pytest.raises(TrackingError, match="no previous champion to put back"):
        promotions.roll_back("why not")
    scene.settle(versions[0])
    with pytest.raises(TrackingError, match="no previous champion to put back"):
        promotions.roll_back("why not")
    scene.settle(versions[1])

    scene.registry.broken = frozenset("1")
    with pytest.raises(ModelError, match="version 1 of genmodel does not load"):
        promotions.roll_back("it paints noise")
    assert scene.aliases() == {CANDIDATE: "2", CHAMPION: "2", PREVIOUS: "1"}
    scene.registry.broken = frozenset()
    now, gone = promotions.roll_back("it paints noise")
    assert (now.number, gone.number) == ("1", "2")
    assert scene.aliases() == {CANDIDATE: "2", CHAMPION: "1", PREVIOUS: "2"}
    assert scene.tags("2")[ROLLED_BACK].endswith("it paints noise")
    client = MlflowClient(scene.settings.tracking_uri, scene.settings.tracking_uri)
    described = client.get_registered_model("genmodel").description
    assert described == "**Champion: [version 1](#/models/genmodel/versions/1), ?.**\n\n", "on its page, first"

    decision = scene.settle(versions[1])
    assert decision.outcome == "reject" and "was rolled back" in decision.reasons[-1]
    assert scene.settle(versions[2]).outcome == "promote", "another model may"

    promotions.roll_back("back to the first")
    promotions.roll_back("no, the third after all")
    assert scene.aliases()[CHAMPION] == "3" and ROLLED_BACK not in scene.tags("3")
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


def test_a_rollback_that_is_killed_is_finished_by_the_next_command(
    unconnected: Any, in_children: Callable[..., list[int]], die_at: Callable[[int], None]
) -> None:
    root, state = unconnected.root, ("mlflow.db", "promotions.jsonl")

    def prepare() -> None:
        for version in unconnected.versions(10.0, 5.0):
            unconnected.settle(version)

    def roll_back(point: int) -> None:
        die_at(point)
        unconnected.promotions.roll_back("bad")

    def finish(rolled: bool) -> None:
        history = unconnected.promotions.history()
        assert [event["kind"] for event in history].count("rollback") == rolled

    assert in_children(prepare) == [0]
    for name in state:
        shutil.copy(root / name, root / f"{name}.before")
    for point in range(
        27
    ):  # three a write: ledger, its digest, two tags, two aliases, the event's tag, ledger, its digest
        for name in state:
            shutil.copy(root / f"{name}.before", root / name)
        assert in_children(lambda at=point: roll_back(at)) == [-signal.SIGKILL], point  # type: ignore[misc]
        rolled = point >= 2  # before, no whole line had been written
        assert in_children(lambda was=rolled: finish(was)) == [0], point  # type: ignore[misc]
        found = unconnected.aliases()
        assert (found[CHAMPION], found[PREVIOUS]) == (("1", "2") if rolled else ("2", "1")), point


def test_what_the_ledger_holds_is_shown_as_text() -> None:
    """A reason or a name with escape codes and line feeds neither moves the cursor nor begins a line."""
    event = {"time": "2026-01-01T00:00:00+00:00", "kind": "rollback", "version": "1", "after": {"champion": None}}
    assert row({**event, "reason": "bad\x1b[2J\nchampion: 9"})[-1] == r"bad\x1b[2J\nchampion: 9"
