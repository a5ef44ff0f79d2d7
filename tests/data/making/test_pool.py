"""What is unpacked to read a source is unpacked once, whatever order its members come in; the bytes are the same."""

import io
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from genmodel.data.block import Block
from genmodel.data.making import pool, shards
from genmodel.data.sources.archives.gzipped import GzipFile
from genmodel.data.sources.datasets import hub
from genmodel.data.sources.members import Listing, Member, Source
from genmodel.sizes import Size

Files = dict[str, bytes]
Make = Callable[..., Block]
Pack = Callable[[str, Files], str]
Tree = Callable[[Path], Files]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Callable[[], list[str]]]:
    """told(holder, name, line) makes every call of a function, in any process, tell `line(*args)`; gives the lines."""

    def tell(holder: Any, name: str, line: Callable[..., str]) -> Callable[[], list[str]]:
        log, real = tmp_path / name, getattr(holder, name)
        log.touch()

        def telling(*args: Any) -> Any:
            handle = os.open(log, os.O_WRONLY | os.O_APPEND)
            os.write(handle, f"{line(*args)}\n".encode())
            os.close(handle)
            return real(*args)

        monkeypatch.setattr(holder, name, telling)
        return lambda: log.read_text().split()

    return tell


@pytest.mark.parametrize("workers", [1, 3])
def test_of_shuffled_parquet_every_row_group_is_read_once(
    workers: int,
    make: Make,
    images: Files,
    tree: Tree,
    tmp_path: Path,
    small_shards: None,
    told: Any,
    parquet_of: Callable[..., str],
) -> None:
    names = sorted(images)
    expected = tree(make(parquet_of(tmp_path / "a/x.parquet", images, names, 5), tmp_path / "a/data").path)
    random.Random(0).shuffle(names)
    shuffled = parquet_of(tmp_path / "b/x.parquet", images, names, 5)
    groups = told(hub, "_images", lambda path, group: f"{group}")
    assert tree(make(shuffled, tmp_path / "b/data", workers=workers).path) == expected
    peeked = 2  # for whether images are resampled, before workers are forked, who have these still
    assert len(groups()) <= 9 + peeked and set(groups()) == set(map(str, range(9)))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tar.gz", "shuffled tar.gz"])
def test_a_tar_gz_is_unpacked_once_by_all_workers_together(
    kind: str, make: Make, packed: Pack, tree: Tree, tmp_path: Path, told: Any
) -> None:
    levels = np.random.default_rng(0)
    files = {
        f"{'ab'[i % 2]}/{i:03d}.ppm": b"P6 150 100 255\n" + levels.integers(0, 256, 45_000, np.uint8).tobytes()
        for i in range(200)
    }
    expected = tree(make(packed("tar", files), tmp_path / "a", workers=2).path)
    source = packed(kind, files)
    taken = told(GzipFile, "_take", lambda self, chunk: f"{os.getpid()} {len(chunk)}")
    assert tree(make(source, tmp_path / "b", workers=3).path) == expected
    lines = taken()
    sizes = Counter[str]()
    for process, size in zip(lines[::2], lines[1::2], strict=True):
        sizes[process] += int(size)
    scanned, whole = sizes.pop(str(os.getpid())), Path(source).stat().st_size
    assert scanned < 1.3 * whole and len(sizes) > 1
    assert sum(sizes.values()) < 1.3 * whole, sizes  # where stretches meet, some bytes are taken twice


@pytest.mark.slow
def test_few_images_and_those_of_their_size_do_without_the_compiler(
    make: Make, encode: Any, picture: Any, packed: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its import takes half a second and 120 MB, and compiling some seconds, once."""
    loaded: list[bool] = []
    monkeypatch.setattr(pool, "compiled", lambda: loaded.append(True))
    few = {f"a/{i}.png": encode(picture(i, 17, 16)) for i in range(19)}
    monkeypatch.setattr(pool, "_REPAYS", 20)
    make(packed("tar", few), tmp_path / "few", sizes=[8])
    same = {f"a/{i}.png": encode(picture(i, 16, 16)) for i in range(20)}
    make(packed("tar", same), tmp_path / "same", sizes=[16])
    assert not loaded
    make(packed("tar", same), tmp_path / "two", sizes=[16, 8])
    make(packed("tar", same | {"a/00.png": encode(picture(0, 17, 16))}), tmp_path / "one", sizes=[8])
    assert len(loaded) == 2


def test_a_line_that_a_kill_has_cut_is_not_built_upon(tmp_path: Path) -> None:
    class Nothing(Source):
        def scan(self) -> Listing:
            return Listing([], 0)

        def read(self, member: Member) -> bytes:
            return b""

    job = shards.Job(Nothing(), tmp_path, [Size(8, 8)])
    path = job.folder(0) / "outcomes"
    assert shards.made_rows(job, 0) == {}
    shards._append(path, '[[0, 2], [["aa", "bad"], ["bb", "bad"]]]')
    with path.open("a") as handle:
        handle.write('\n[[1, 3], [["cc", "b')
    assert shards.made_rows(job, 0) == {0: ["aa", "bad"], 2: ["bb", "bad"]}
    shards._append(path, '[[3], [["dd", "bad"]]]')
    assert list(shards.made_rows(job, 0)) == [0, 2, 3]


def test_rows_go_to_their_places_in_any_order(encode: Any, picture: Any, packed: Pack, tmp_path: Path) -> None:
    """Of three shards at once, the last member first; a rejected one leaves its row to nobody."""
    from genmodel.data.sources.meaning.arrange import listing_of
    from genmodel.data.sources.opening import open_source

    files = {f"a/{i}.png": encode(picture(i, 8, 8)) for i in range(9)} | {"a/4.png": b"bad"}
    source = open_source(packed("tar", files))
    members = listing_of(source).members
    (tmp_path / "block/8").mkdir(parents=True)
    job = shards.Job(source, tmp_path, [Size(8, 8)])
    order = [8, 1, 7, 3, 0, 2, 6, 4, 5]
    outcomes = shards.make_slice(job, 3, shards.Slice(order, [members[place] for place in order]))
    assert [len(outcome) for outcome in outcomes] == [7] * 7 + [2] + [7]
    for shard in range(3):
        shards.install(tmp_path, shard, shards.finish(job, shard, 3))
        rows = np.load(tmp_path / f"block/8/shard-{shard:05d}.npy")
        kept = [name for name in sorted(files)[3 * shard : 3 * shard + 3] if files[name] != b"bad"]
        for row, name in zip(rows, kept, strict=True):
            np.testing.assert_array_equal(row, np.asarray(Image.open(io.BytesIO(files[name])).convert("RGB")))


def test_an_error_in_a_worker_comes_with_where_it_was(
    make: Make, images: Files, packed: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(content: bytes, *_: object) -> None:
        raise ZeroDivisionError("of our own")

    monkeypatch.setattr(shards, "decode", broken)
    with pytest.raises(ZeroDivisionError, match="of our own") as caught:
        make(packed("tar", images), tmp_path / "data")
    assert any("in _convert" in note for note in caught.value.__notes__)
