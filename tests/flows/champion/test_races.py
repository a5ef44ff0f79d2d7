"""Promotions that start together, one of them killed: the better model is champion, and each decision is kept.

15 races, and a kill at every fourth point of a promotion; GENMODEL_KILLS=4 makes it sixty, and every point.
"""

import itertools
import os
import random
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from flows.registry import register
from flows.registry.registry import CHAMPION, PREVIOUS, Version
from tests.kills import KILLS

# three a write: candidate, ledger, its digest, the tag of the open decision, three tags, [previous, champion,] the
# event's tag, the open decision's taken away, ledger, its digest
ALWAYS, WHEN_PROMOTED = 33, 39
RACES = 15 * KILLS
STEP = max(1, 4 // KILLS)


@pytest.mark.fault("kill -9 of a promotion")
@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_of_races_with_kills_the_better_model_comes_out_as_champion(
    unconnected: Any, in_children: Callable[..., list[int]], die_at: Callable[[int], None]
) -> None:
    scene = unconnected
    distances = _distances()
    numbers = [str(n) for n in range(1, len(distances) + 1)]
    assert in_children(lambda: scene.versions(*distances)) == [0]
    scene.distances = dict(zip(numbers, distances, strict=True))
    versions = [Version(number, "", {"genmodel.weights": f"{int(number):064}"}) for number in numbers]

    def promotion(candidate: Version, point: int | None = None) -> Callable[[], object]:
        def promote() -> None:
            if point is not None:
                die_at(point)
            scene.settle(candidate)

        return promote

    def connect() -> object:
        return scene.registry.version(CHAMPION)

    best = versions[0]
    assert in_children(promotion(best)) == [0]
    for number, rivals in enumerate(zip(versions[1::2], versions[2::2], strict=True)):
        winner = min([best, *rivals], key=lambda version: scene.distances[version.number])
        point = number * STEP % (WHEN_PROMOTED if winner == rivals[0] else ALWAYS)
        codes = in_children(promotion(rivals[0], point), promotion(rivals[1]), first=connect)
        assert codes == [-signal.SIGKILL, 0], (number, point)
        assert in_children(promotion(rivals[0])) == [0]  # the next command, as a person gives it again
        found = scene.aliases()
        assert found[CHAMPION] == winner.number, (number, point)
        events = scene.ledger.events()
        kinds = Counter(event["event"] for event in events)
        assert kinds["decided"] == kinds["done"] and not kinds["void"], "each decision was carried out, once"
        told = {event["version"]: event["decision"]["outcome"] for event in events if event["event"] == "decided"}
        assert {rival.number for rival in rivals} <= told.keys()
        assert all(scene.tags(rival.number)["genmodel.decision"] == told[rival.number] for rival in rivals)
        champions = [event["after"]["champion"]["version"] for event in events if event["event"] == "decided"]
        line = [champion for champion, _ in itertools.groupby(champions)]
        assert found.get(PREVIOUS) == (line[-2] if len(line) > 1 else None)
        best = winner
    assert len(set(champions)) > 0.3 * RACES, "the champion changed often"


@pytest.mark.slow
def test_the_same_decision_has_the_same_bytes_whatever_was_killed(
    unconnected: Any, in_children: Callable[..., list[int]], die_at: Callable[[int], None]
) -> None:
    scene, root = unconnected, unconnected.root
    files, state = ("decision.json", "decision.md"), ("mlflow.db", "promotions.jsonl")

    def prepare() -> None:
        first, _ = scene.versions(10.0, 5.0)
        scene.settle(first)

    def decide(point: int | None = None) -> None:
        if point is not None:
            die_at(point)
        os.chdir(root)
        register._write(scene.settle(candidate))

    assert in_children(prepare) == [0]
    scene.distances = {"1": 10.0, "2": 5.0}
    candidate = Version("2", "", {"genmodel.weights": f"{2:064}"})
    for name in state:
        shutil.copy(root / name, root / f"{name}.before")
    assert in_children(decide) == [0]
    whole = {name: (root / name).read_bytes() for name in files}
    for point in range(0, WHEN_PROMOTED, STEP):
        for name in state:
            shutil.copy(root / f"{name}.before", root / name)
        for name in files:
            (root / name).unlink()
        assert in_children(lambda at=point: decide(at)) == [-signal.SIGKILL], point  # type: ignore[misc]
        assert in_children(decide) == [0]
        assert {name: (root / name).read_bytes() for name in files} == whole, point


def _distances() -> list[float]:
    """Of a first champion and of pairs, some better than the best before them, some worse."""
    choose, distances = random.Random(7), [1000.0]
    for _ in range(RACES):
        one = min(distances) * choose.choice([0.7, 0.8, 0.9, 1.2, 1.3])
        distances += [one, one * choose.choice([0.95, 1.06])]
    return distances
