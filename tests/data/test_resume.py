"""Killed at any moment and started again: the same bytes, no finished shard made twice, the old block untouched."""

import io
import lzma
import os
import random
import signal
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmodel.data.block import Block
from genmodel.data.making import shards
from genmodel.data.making.pool import make_shards
from genmodel.data.sources.members import Member
from genmodel.files import durable
from tests.kills import KILLS

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, dict[str, bytes]], str]
Tree = Callable[[Path], dict[str, bytes]]


SHARD = 8  # images


@pytest.fixture
def long_slices(monkeypatch: pytest.MonkeyPatch, small_shards: None) -> None:
    """Shards of 8 images in slices as long as they may be."""
    monkeypatch.setattr("genmodel.data.making.pool.SLICE", shards.SLICE)


@pytest.fixture
def converted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], Counter[str]]:
    """What every process has converted since the last call: how often each member."""
    log, real = tmp_path / "log", shards._convert
    log.touch()

    def convert(job: Any, member: Member) -> Any:
        handle = os.open(log, os.O_WRONLY | os.O_APPEND)
        os.write(handle, f"{member.name}\n".encode())
        os.close(handle)
        return real(job, member)

    def since() -> Counter[str]:
        names = Counter(log.read_text().split())
        os.truncate(log, 0)
        return names

    monkeypatch.setattr(shards, "_convert", convert)
    return since


@pytest.fixture
def resumed(make: Make, tree: Tree, converted: Callable[[], Counter[str]]) -> Callable[..., int]:
    """resumed(source, out, expected, workers) takes up a killed run; how many images it converted a second time."""

    def resume(source: str, out: Path, expected: Files, workers: int = 1) -> int:
        before, finished = converted(), out.exists()  # killed behind the last rename: made anew, as at any time
        assert tree(make(source, out, workers=workers).path) == expected
        assert not out.with_name(out.name + ".partial").exists()
        return 0 if finished else (before & converted()).total()

    return resume


@pytest.fixture
def killed(make: Make, tree: Tree, tmp_path: Path, count_writes: Any, resumed: Any, converted: Any) -> Any:
    """killed(source, kills, spare): kills spread over all writes of a run but the last `spare`, which may vary, some
    without the workers; each run is resumed to the same bytes, which are returned."""

    def kill_all(source: str, kills: int, spare: int = 1) -> Files:
        code, writes = count_writes(partial(make, source, tmp_path / "whole"))
        expected: Files = tree(tmp_path / "whole")
        assert code == 0 and writes > 60
        repeated = []
        for kill in range(kills):
            out, write = tmp_path / f"{kill}", 1 + kill * (writes - spare) // (kills - 1)
            converted()
            code, _ = count_writes(partial(make, source, out), write, kill % 4 != 1)
            assert code == -signal.SIGKILL, f"there was no write {write} of {writes}"
            repeated.append(resumed(source, out, expected, 1 + kill % 3))
        assert max(repeated) <= SHARD
        return expected

    return kill_all


@pytest.mark.fault("kill -9 of a preparation")
@pytest.mark.slow
def test_killed_at_any_write_and_resumed_gives_the_same_bytes(
    files: Files, packed: Pack, long_slices: None, killed: Any
) -> None:
    killed(packed("tar", files), 60)


@pytest.mark.fault("kill -9 of a preparation")
@pytest.mark.slow
def test_killed_at_any_write_of_rows_in_the_order_of_the_source(
    make: Make, files: Files, parquet_of: Callable[..., str], tree: Tree, tmp_path: Path, long_slices: None, killed: Any
) -> None:
    """Where rows come in any order, nearly all shards are unfinished at a kill, and no more is made twice for that."""
    names = sorted(files)
    expected = tree(make(parquet_of(tmp_path / "sorted/x.parquet", files, names, 5), tmp_path / "data").path)
    random.Random(0).shuffle(names)
    assert killed(parquet_of(tmp_path / "shuffled/x.parquet", files, names, 5), 20, spare=20) == expected


def of_a_packed_tar(path: Path, tar: bytes) -> str:
    path.write_bytes(lzma.compress(tar))
    return str(path)


def of_zips(path: Path, tar: bytes) -> str:
    """A zip that holds a zip of each class."""
    classes: dict[str, io.BytesIO] = {}
    with tarfile.open(fileobj=io.BytesIO(tar)) as source, zipfile.ZipFile(path, "w") as outer:
        for member in source:
            top, _, rest = member.name.partition("/")
            handle = source.extractfile(member)
            assert handle is not None
            with zipfile.ZipFile(classes.setdefault(top, io.BytesIO()), "a") as inner:
                inner.writestr(rest, handle.read())
        for top, packed_class in classes.items():
            outer.writestr(f"{top}.zip", packed_class.getvalue(), zipfile.ZIP_DEFLATED)
    return str(path)


def of_arrays(path: Path, tar: bytes) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (45, 16, 16, 3), np.uint8)
    with path.open("wb") as handle:
        np.savez_compressed(handle, images=pixels, labels=np.arange(45) % 3)
    return str(path)


@pytest.mark.fault("kill -9 of a preparation")
@pytest.mark.slow
@pytest.mark.parametrize(("pack", "name"), [(of_a_packed_tar, "a.tar.xz"), (of_zips, "a.zip"), (of_arrays, "a.npz")])
def test_killed_while_it_reads_a_container_and_resumed(
    pack: Callable[[Path, bytes], str],
    name: str,
    images: Files,
    tar_bytes: Callable[..., bytes],
    tmp_path: Path,
    long_slices: None,
    killed: Any,
) -> None:
    """What a killed run has unpacked is gone with it, and its shards are not."""
    killed(pack(tmp_path / name, tar_bytes(sorted(images.items()))), 10, spare=20)
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file() and path.name != "log") == [name]


@pytest.mark.fault("kill -9 of a preparation")
@pytest.mark.slow
def test_killed_at_any_time_and_resumed_gives_the_same_bytes(
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
    """20 kills at random times within a run's length."""
    source, rng = packed("tar", files), random.Random(0)
    began = time.monotonic()
    assert in_child(partial(make, source, tmp_path / "whole")) == 0
    whole = time.monotonic() - began
    expected = tree(tmp_path / "whole")
    kills, tries, repeated = 0, 0, []
    while kills < 20 * KILLS:
        out = tmp_path / f"{tries}"
        converted()
        code = in_child(partial(make, source, out), kill_after=rng.uniform(0, whole))
        tries += 1
        assert code in (0, -signal.SIGKILL) and tries < 60 * KILLS
        if code:
            kills += 1
            repeated.append(resumed(source, out, expected))
        else:
            whole *= 0.9  # the machine has become faster
            assert tree(out) == expected
    print(f"{tries - kills} of {tries} runs ended before their kill; at most {max(repeated)} images converted twice")
    assert max(repeated) <= SHARD


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
