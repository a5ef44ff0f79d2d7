"""Killed at any moment and started again: the same bytes, no finished shard made twice, the old block untouched."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from genmodel import durable
from genmodel.data import prepare, shards
from genmodel.data.block import Block
from genmodel.data.members import Member
from genmodel.data.pool import make_shards

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, dict[str, bytes]], str]
Tree = Callable[[Path], dict[str, bytes]]


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch, small_shards: None) -> None:
    """Shards of 8 images made of slices of 1, on a disk that need not be waited for."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr("genmodel.data.pool.SLICE", 1)


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Counter[str]]:
    """What every process has converted since the last call: how often each member."""
    log, real = tmp_path / "log", shards._convert
    log.touch()

    def convert(member: Member) -> Any:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.write(handle, f"{member.name}\n".encode())
        os.close(handle)
        return real(member)

    def since() -> Counter[str]:
        names = Counter(log.read_text().split())
        os.truncate(log, 0)
        return names

    monkeypatch.setattr(shards, "_convert", convert)
    return since


# A resume makes again the shard that waited for its seal, and what there was of the one behind it.
REPEATED_AT_MOST = 2 * 8


def test_killed_at_any_write_and_resumed_gives_the_same_bytes(
    make: Make, files: Files, packed: Pack, tree: Tree, tmp_path: Path, unsynced: None, killed_at: Any, converted: Any
) -> None:
    """60 kills, each before another write, some without the workers."""
    source = packed("tar", files)
    expected = tree(make(source, tmp_path / "whole").path)
    kills, write, most = 0, 1, 0
    while kills < 60:
        out = tmp_path / f"{write}"
        converted()
        code = killed_at(write, write % 4 != 1, partial(make, source, out))
        assert code == -signal.SIGKILL, f"{write} writes are more than there were"
        kills, write = kills + 1, write + 1 + kills % 2
        before = converted()
        assert tree(make(source, out, workers=1).path) == expected
        most = max(most, (before & converted()).total())
        assert not out.with_name(out.name + ".partial").exists()
    print(f"at most {most} of {len(files)} images were converted twice")
    assert most <= REPEATED_AT_MOST
    assert killed_at(10_000, True, partial(make, source, tmp_path / "last")) == 0


def test_killed_at_any_time_and_resumed_gives_the_same_bytes(
    make: Make, files: Files, packed: Pack, tree: Tree, tmp_path: Path, unsynced: None, in_child: Any, converted: Any
) -> None:
    """40 kills at random times within a run's length."""
    source, rng = packed("tar", files), random.Random(0)
    began = time.monotonic()
    assert in_child(partial(make, source, tmp_path / "whole")) == 0
    whole = time.monotonic() - began
    expected = tree(tmp_path / "whole")
    kills, tries, most = 0, 0, 0
    while kills < 40:
        out = tmp_path / f"{tries}"
        converted()
        code = in_child(partial(make, source, out), kill_after=rng.uniform(0, whole))
        tries += 1
        assert code in (0, -signal.SIGKILL) and tries < 120
        kills += code == -signal.SIGKILL
        whole *= 1 if code else 0.9  # the machine has become faster
        before, unfinished = converted(), not out.exists()  # a block that is in place is made anew, as at any time
        assert tree(make(source, out, workers=1).path) == expected
        if code and unfinished:
            most = max(most, (before & converted()).total())
    print(f"{tries - kills} of {tries} runs ended before their kill; at most {most} images were converted twice")
    assert most <= REPEATED_AT_MOST


def test_a_kill_leaves_the_old_block_and_a_resume_keeps_finished_shards(
    make: Make,
    files: dict[str, bytes],
    packed: Pack,
    tmp_path: Path,
    small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
    in_child: Callable[..., int],
) -> None:
    out = tmp_path / "data"
    old = make(packed("tar", {"a/1.png": files["ape/000.png"]}), out).digest
    source = packed("tar", files)
    parts = tmp_path / "data.partial" / "parts"

    def until_killed() -> None:
        real = durable.write_text

        def write_text(path: Path, content: str) -> None:
            real(path, content)
            if len(list(parts.glob("*.json"))) >= 3:
                os.killpg(os.getpgid(0), signal.SIGKILL)

        pytest.MonkeyPatch().setattr(durable, "write_text", write_text)
        make(source, out)

    assert in_child(until_killed) == -signal.SIGKILL
    assert Block.open(out).digest == old
    done = {path.name for path in parts.glob("*.json")}
    assert 3 <= len(done) < 6
    todo: list[int] = []

    def watched(job: Any, members: Any, rows: int, missing: list[int], workers: int) -> Any:
        todo.extend(missing)
        return make_shards(job, members, rows, missing, workers)

    monkeypatch.setattr(prepare, "make_shards", watched)
    assert len(make(source, out)) == 42
    assert len(todo) == 6 - len(done)


def test_a_partial_of_other_settings_is_not_taken_up(
    make: Make, files: dict[str, bytes], packed: Pack, tree: Tree, tmp_path: Path, small_shards: None, killed_at: Any
) -> None:
    source, out = packed("tar", files), tmp_path / "data"
    assert killed_at(25, True, lambda: make(source, out, sizes=[16])) == -signal.SIGKILL
    assert tree(make(source, out).path) == tree(make(source, tmp_path / "fresh").path)
