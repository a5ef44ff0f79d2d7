"""Promotions from two clones of the project with one MLflow server: no decision is made about a champion of before."""

import json
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient

from flows.registry.registry import CHAMPION, PREVIOUS, Version
from flows.settings import Settings
from flows.tracking import Owner, Tracker, Turn, turn
from flows.tracking.lease import OWNER
from genmodel.errors import TrackingError
from tests.flows.outages import Server

ROUNDS = 6
POINTS = [None, 5, 13, 20, 23, 29]  # of the write at which the first of a round is killed, as in test_races.py


@pytest.fixture
def server(tmp_path: Path, empty_database: Path) -> Iterator[Server]:
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    found = Server(tmp_path, tmp_path / "mlflow.db")
    try:
        found.start()
        yield found
    finally:
        found.kill()


@pytest.fixture
def clones(server: Server, unconnected: Any) -> list[Any]:
    """Two scenes with a folder, a lock and a ledger each; MLflow's database lies beside the server."""
    kind = type(unconnected)
    scenes = []
    for name in ("one", "two"):
        (server.folder / name).mkdir()
        settings = Settings.read({"MLFLOW_TRACKING_URI": server.uri}, server.folder / name)
        scenes.append(kind(settings))
        (server.folder / name / "mlflow.db").symlink_to(server.folder / "mlflow.db")
    return scenes


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_races_of_two_clones_one_of_them_killed_leave_the_better_model_and_an_unbroken_line(
    clones: list[Any], in_children: Callable[..., list[int]], die_at: Callable[[int], None]
) -> None:
    one, two = clones
    distances = [100.0, *(100.0 * 0.8**n for n in range(1, 2 * ROUNDS + 1))]
    assert in_children(lambda: one.versions(*distances)) == [0]
    numbers = [str(n) for n in range(1, len(distances) + 1)]
    one.distances = two.distances = dict(zip(numbers, distances, strict=True))
    versions = [Version(number, "", {"genmodel.weights": f"{int(number):064}"}) for number in numbers]

    def promotion(scene: Any, candidate: Version, point: int | None = None) -> Callable[[], object]:
        def promote() -> None:
            if point is not None:
                die_at(point)
            scene.settle(candidate)

        return promote

    def told(scene: Any) -> Callable[[], object]:
        return lambda: (scene.root / "told.json").write_text(json.dumps(scene.promotions.history()))

    assert in_children(promotion(one, versions[0])) == [0]
    for point, first, second in zip(POINTS, versions[1::2], versions[2::2], strict=True):
        # the better one, `second`, must win, whichever is first
        codes = in_children(promotion(one, first, point), promotion(two, second), first=lambda: one.registry._exists())
        assert codes == [0 if point is None else -signal.SIGKILL, 0], point
        assert one.aliases()[CHAMPION] == second.number, point
        assert in_children(promotion(one, first)) == [0], "the next command of the one that was killed"
        assert one.aliases()[CHAMPION] == second.number, point
    assert in_children(told(one), told(two)) == [0, 0]
    histories = [json.loads((scene.root / "told.json").read_text()) for scene in clones]
    assert [event["id"] for event in histories[0]] == [event["id"] for event in histories[1]], "one history"
    now: dict[str, str] | None = None
    for event in histories[0]:
        assert event["before"] == now, "each decision is about the champion that there was"
        now = event["after"]["champion"]
    assert now is not None and one.aliases()[CHAMPION] == now["version"]
    moved = [event["after"]["champion"] for event in histories[0] if event["after"]["champion"] != event["before"]]
    assert one.aliases()[PREVIOUS] == moved[-2]["version"]
    assert not any(key.startswith("genmodel.turn.") for key in one.model_tags()), "every turn was given back"


def test_a_turn_is_one_process_s_at_a_time_and_the_dead_are_passed_over(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    client.create_registered_model("genmodel")
    tracker = Tracker(settings)

    def tags() -> dict[str, str]:
        return dict(client.get_registered_model("genmodel").tags)

    held: list[int] = []

    def take(number: int) -> None:
        with Turn(Tracker(settings), "genmodel").taken():
            held.append(number)
            time.sleep(0.2)
            held.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [held[n] == held[n + 1] for n in (0, 2, 4)] == [True] * 3 and len(held) == 6
    assert tags() == {}

    dead = {"number": 1, **json.loads(replace(Owner.here(), start=0).tag()[OWNER])}
    client.set_registered_model_tag("genmodel", "genmodel.turn.dead", json.dumps(dead))
    with Turn(tracker, "genmodel").taken():
        assert "genmodel.turn.dead" not in tags(), "on this machine it is looked up"
    away = {**dead, "host": "elsewhere", "boot": "another"}
    client.set_registered_model_tag("genmodel", "genmodel.turn.away", json.dumps(away))
    monkeypatch.setattr(turn, "_GONE", 1.0)
    started = time.monotonic()
    with Turn(tracker, "genmodel").taken() as mine:
        assert time.monotonic() - started > 1, "elsewhere it is watched"
        mine.check()
        client.delete_registered_model_tag("genmodel", next(iter(tags())))
        with pytest.raises(TrackingError, match="lost its turn"):
            mine.check()

    client.set_registered_model_tag("genmodel", "genmodel.turn.away", json.dumps(away))
    monkeypatch.setattr(turn, "_GONE", 60.0)
    monkeypatch.setattr(turn, "_PATIENCE", 0.5)
    late = pytest.raises(TrackingError, match=r"genmodel has been kept from us for .* of elsewhere")
    with late, Turn(tracker, "genmodel").taken():
        pass
    assert list(tags()) == ["genmodel.turn.away"], "who gives up leaves nothing behind"
