"""Without a GPU the stages that train take turns on the cores; with one, tests/flows/test_resources.py."""

import contextlib
import threading
import time
from pathlib import Path

import pytest

from flows.running import slots
from flows.settings import Settings


@pytest.mark.parametrize(("cores", "at_once"), [(1, 2), (3, 3)])
def test_without_a_gpu_as_many_run_as_there_are_cores(
    cores: int, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "devices", list)
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    monkeypatch.delenv("GENMODEL_GPU_SLOTS", raising=False)
    shared, entered, end = slots.Slots(Settings.read({}, tmp_path)), threading.Semaphore(0), threading.Event()

    def stage() -> None:
        with shared.one((slots.TAG,)) as environment:
            assert environment == {}
            entered.release()
            end.wait(30)

    threads = [threading.Thread(target=stage) for _ in range(at_once + 1)]
    for thread in threads:
        thread.start()
    assert all(entered.acquire(timeout=30) for _ in range(at_once))
    assert not entered.acquire(timeout=0.3), "one too many"
    with shared.one(()):
        pass  # what does not train runs beside
    end.set()
    assert entered.acquire(timeout=30), "the last one"
    for thread in threads:
        thread.join(30)


def test_who_waits_is_let_in_by_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "devices", list)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.delenv("GENMODEL_GPU_SLOTS", raising=False)
    shared, order, told = slots.Slots(Settings.read({}, tmp_path)), list[int](), list[str]()

    def stage(rank: int) -> None:
        with shared.one((slots.TAG,), rank, told.append):
            order.append(rank)

    threads = [threading.Thread(target=stage, args=(rank,)) for rank in (3, 1, 4, 2)]
    with shared.one((slots.TAG,)), contextlib.ExitStack() as second:
        second.enter_context(shared.one((slots.TAG,)))
        for thread in threads:
            thread.start()
        while len(shared._cores._waiting) < len(threads):
            time.sleep(0.01)
        second.close()  # one slot, so that they go one after the other
        for thread in threads:
            thread.join(30)
    assert order == [1, 2, 3, 4]
    assert told == ["waits for a core: 2 stages run at a time"] * 4
