"""Killed at any moment and started again: the same bytes, no finished shard made twice, the old block untouched."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from genmodel import durable
from genmodel.data import prepare
from genmodel.data.block import Block
from genmodel.data.pool import make_shards

Make = Callable[..., Block]
Pack = Callable[[str, dict[str, bytes]], str]
Tree = Callable[[Path], dict[str, bytes]]


def in_child(task: Callable[[], object]) -> int:
    """Run in a forked process group of its own; its exit code, negative for a signal."""

    def child() -> None:
        os.setsid()
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123
        task()

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(60)
    assert process.exitcode is not None
    return process.exitcode


def killed_at(write: int, whole_group: bool, task: Callable[[], object]) -> int:
    """The exit code of `task` when its process is killed before its n-th write to disk, by whichever process made."""
    count = multiprocessing.Value("i", 0)

    def child() -> None:
        main = os.getpid()

        def counted(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **options: Any) -> Any:
                with count.get_lock():
                    count.value += 1
                    if count.value == write:
                        os.killpg(main, signal.SIGKILL) if whole_group else os.kill(main, signal.SIGKILL)
                return function(*args, **options)

            return call

        writes = [
            (os, "fsync"),
            (shutil, "rmtree"),
            *((Path, name) for name in ("replace", "rename", "touch", "unlink")),
        ]
        for holder, name in writes:
            setattr(holder, name, counted(getattr(holder, name)))
        task()

    return in_child(child)


def test_killed_at_any_write_and_resumed_gives_the_same_bytes(
    make: Make, files: dict[str, bytes], packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    source = packed("tar", files)
    expected = tree(make(source, tmp_path / "whole").path)
    kills = 0
    for write in range(1, 200, 9):
        out = tmp_path / f"{write}"
        code = killed_at(write, write % 2 == 0, partial(make, source, out))  # in turns with and without its workers
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
        assert tree(make(source, out).path) == expected
        assert not out.with_name(out.name + ".partial").exists()
    assert kills >= 8
    assert code == 0, "the writes went on behind the last kill"


def test_a_kill_leaves_the_old_block_and_a_resume_keeps_finished_shards(
    make: Make,
    files: dict[str, bytes],
    packed: Pack,
    tmp_path: Path,
    small_shards: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "data"
    old = make(packed("tar", {"a/1.png": files["ape/000.png"]}), out).digest
    source = packed("tar", files)
    parts = tmp_path / "data.partial" / "parts"

    def until_killed() -> None:
        real = durable.write_text

        def write_text(path: Path, content: str) -> None:
            real(path, content)
            if len(list(parts.glob("*.json"))) == 3:
                os.killpg(os.getpgid(0), signal.SIGKILL)

        pytest.MonkeyPatch().setattr(durable, "write_text", write_text)
        make(source, out)

    assert in_child(until_killed) == -signal.SIGKILL
    assert Block.open(out).digest == old
    done = {path.name for path in parts.glob("*.json")}
    assert len(done) == 3
    todo: list[int] = []

    def watched(job: Any, members: Any, rows: int, missing: list[int], workers: int) -> Any:
        todo.extend(missing)
        return make_shards(job, members, rows, missing, workers)

    monkeypatch.setattr(prepare, "make_shards", watched)
    assert len(make(source, out)) == 42
    assert len(todo) == 6 - len(done)


def test_a_partial_of_other_settings_is_not_taken_up(
    make: Make, files: dict[str, bytes], packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    source, out = packed("tar", files), tmp_path / "data"
    assert killed_at(25, True, lambda: make(source, out, sizes=[16])) == -signal.SIGKILL
    assert tree(make(source, out).path) == tree(make(source, tmp_path / "fresh").path)
