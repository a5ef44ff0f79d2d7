"""Killed while its shards are made, at a chosen call: what is whole and synced is kept, everything else made anew."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from genmodel.data.block import Block
from genmodel.data.making import shards
from genmodel.data.making.pool import make_shards
from genmodel.files import durable

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, dict[str, bytes]], str]
Tree = Callable[[Path], dict[str, bytes]]

SHARD = 8  # images, of the fixture small_shards


def killed_by(task: Callable[[], object], holder: Any, name: str, call: int) -> Callable[[], None]:
    """`task` for a child that is killed, workers and all, at the n-th call of a function in any one process."""

    def child() -> None:
        real, calls = getattr(holder, name), iter(range(1, call + 1))

        def lethal(*args: Any, **options: Any) -> Any:
            if next(calls) == call:
                os.killpg(os.getpgid(0), signal.SIGKILL)
            return real(*args, **options)

        setattr(holder, name, lethal)
        task()

    return child


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after", "repeated"), [("one", "one", 0), ("one", "two", 5), ("", "", 5)])
def test_only_rows_of_the_same_boot_are_built_upon(
    before: str,
    after: str,
    repeated: int,
    make: Make,
    files: Files,
    packed: Pack,
    tree: Tree,
    tmp_path: Path,
    long_slices: None,
    in_child: Any,
    resumed: Any,
    converted: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a power cut what was not synced may be gone, or empty: the shard is made anew."""
    monkeypatch.setattr("genmodel.data.making.pool.SLICE", 1)
    source, boot, out = packed("folder", files), tmp_path / "boot_id", tmp_path / "data"  # in canonical order
    expected = tree(make(source, tmp_path / "whole").path)
    monkeypatch.setattr(shards, "_BOOT", boot)

    def start(text: str) -> None:
        boot.write_text(text) if text else boot.unlink(missing_ok=True)

    converted()
    start(before)
    task = killed_by(partial(make, source, out, workers=1), shards, "_convert", SHARD + 6)
    assert in_child(task) == -signal.SIGKILL
    start(after)
    partial_files = list((tmp_path / "data.partial/parts/00001").glob("*/*"))
    (outcomes,) = (path.read_text() for path in partial_files if path.name == "outcomes")
    assert sum(map(bool, outcomes.splitlines())) == 5
    if before != after:
        for path in partial_files:
            path.write_bytes(b"")
    assert resumed(source, out, expected) == repeated


@pytest.mark.fault("kill -9 of a preparation")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("holder", "name", "calls"),
    [(os, "pread", (7 + 7 + 4) * 2), (shards, "shard_header", 6 * 2), (shards.durable, "digest_file", 6 * 2)],
)
def test_killed_while_a_shard_is_finished(
    holder: Any,
    name: str,
    calls: int,
    make: Make,
    files: Files,
    packed: Pack,
    tree: Tree,
    tmp_path: Path,
    long_slices: None,
    in_child: Any,
    resumed: Any,
    converted: Any,
) -> None:
    """At rows that close the gaps of three shards, before the headers, and after them, at both sizes."""
    source = packed("folder", files)  # read without pread
    expected = tree(make(source, tmp_path / "whole").path)
    for call in range(1, calls + 1, 2):
        out = tmp_path / f"{call}"
        converted()
        task = killed_by(partial(make, source, out, workers=1), holder, name, call)
        assert in_child(task) == -signal.SIGKILL
        assert resumed(source, out, expected) <= SHARD
    assert in_child(killed_by(partial(make, source, tmp_path / "last", workers=1), holder, name, calls + 1)) == 0


@pytest.mark.fault("kill -9 of a preparation")
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

        def write_text(path: Path, content: str, sync: bool = True) -> None:
            real(path, content, sync)
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

    assert len(make(source, out, make=watched)) == 42
    assert len(todo) == 6 - len(done)


def test_a_partial_of_other_settings_is_not_taken_up(
    make: Make, files: dict[str, bytes], packed: Pack, tree: Tree, tmp_path: Path, small_shards: None, killed_at: Any
) -> None:
    source, out = packed("tar", files), tmp_path / "data"
    assert killed_at(25, True, lambda: make(source, out, sizes=[16])) == -signal.SIGKILL
    assert tree(make(source, out).path) == tree(make(source, tmp_path / "fresh").path)
