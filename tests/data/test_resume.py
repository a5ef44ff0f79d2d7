"""Killed at any moment and started again: the same bytes, no finished shard made twice, the old block untouched."""

import io
import lzma
import random
import signal
import tarfile
import time
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmodel.data.block import Block
from tests.kills import KILLS

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, dict[str, bytes]], str]
Tree = Callable[[Path], dict[str, bytes]]


SHARD = 8  # images


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
