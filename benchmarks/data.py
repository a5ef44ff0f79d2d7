"""Preparation and loading: beside the plain way, beside their own floor, and beside a copy of the same bytes."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from torch import Tensor

from benchmarks import plain
from benchmarks.compare import Row, alternate, rate, settled
from genmodel.data import parquet
from genmodel.data.block import Block, ledger_name, shard_header, shard_name, write_index
from genmodel.data.imaging.decode import decode
from genmodel.data.imaging.kernels import compiled
from genmodel.data.imaging.resize import resize
from genmodel.data.making.make import prepare
from genmodel.data.reading.loader import Loader
from genmodel.data.reading.store import Place
from genmodel.devices import use_cpu
from genmodel.files.durable import digest_file
from genmodel.sizes import Size

CORES = os.cpu_count() or 1
BATCHES = {64: 256, 256: 64}  # images a batch by size in pixels
LARGE = 512 << 20  # bytes
MANY = 8000  # images to prepare


def measure_prepare(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """Raw JPEGs to finished uint8 arrays on disk, all cores: so many that the start counts for little.

    The floor is decode and resize, nothing else: as Pillow does them, and as we do. With a plain write it tells what
    the machine asks for new pages in its cache: on a virtual machine that hands idle memory back, a fifth of all.
    """
    with tempfile.TemporaryDirectory() as more:
        return _prepare_rows(repeated(images, Path(more)), options.repeats)


def _prepare_rows(images: Path, repeats: int) -> list[Row]:
    _raw[:] = [path.read_bytes() for path in sorted(images.rglob("*")) if path.is_file()]
    count = len(_raw)

    def ours(*sizes: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            return rate(count, lambda: prepare(str(images), Path(scratch) / "data", sizes))

    def theirs(size: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            return rate(count, lambda: plain.prepare(images, size, Path(scratch) / "array.npy", CORES))

    def row(what: str, sizes: Sequence[int], beside: str, other: Callable[[], float]) -> Row:
        return alternate(f"prepare {what}, {CORES} cores", lambda: ours(*sizes), beside, other, repeats)

    compiled()
    with get_context("fork").Pool(CORES) as pool:  # whose workers have files and loops: no pipe counts

        def floor(convert: Callable[[int], object]) -> float:
            return rate(count, lambda: pool.map(convert, range(count), 16))

        def written() -> float:
            with tempfile.TemporaryDirectory() as scratch:
                return floor(partial(_write, scratch))

        return [
            row("64 px", [64], "ImageFolder, Resize, CenterCrop", partial(theirs, 64)),
            row("256 px", [256], "ImageFolder, Resize, CenterCrop", partial(theirs, 256)),
            row("256 px", [256], "decode and resize alone, Pillow's", partial(floor, _plain)),
            row("256 px", [256], "decode and resize alone, ours", partial(floor, _convert)),
            row("256 px", [256], "ours and a plain write", written),
            row("64, 128 and 256 px", [64, 128, 256], "256 px alone", lambda: ours(256)),
        ]


def repeated(images: Path, folder: Path) -> Path:
    """The images under other names, too, until there are MANY."""
    files = [path for path in sorted(images.rglob("*")) if path.is_file()]
    if len(files) >= MANY:
        return images
    for number in range(-(-MANY // len(files))):
        for path in files:
            name = folder / path.parent.relative_to(images) / f"{number}-{path.name}"
            name.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, name)
    return folder


_raw: list[bytes] = []


def _plain(place: int) -> None:
    plain.adm(_raw[place], 256)


def _convert(place: int) -> None:
    resize(decode(_raw[place])[0], 256)


def _write(folder: str, place: int) -> None:
    pixels = resize(decode(_raw[place])[0], 256)
    with (Path(folder) / str(os.getpid())).open("ab") as handle:
        handle.write(pixels.tobytes())


def measure_load(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """Shuffled batches, without a model."""
    use_cpu(0)
    rows = []
    for size in block.sizes:
        batch_size = BATCHES[size.width]
        count = batch_size * (250 if size.width == 64 else 100)
        with tempfile.TemporaryDirectory() as scratch:
            large = enlarged(block, size, Path(scratch) / "data")
            copied = partial(rate, count, partial(_copy, large, size, count, batch_size))
            for place in ("device", "map"):
                ours = _loading(large, size, place, False, count, batch_size)
                rows.append(alternate(f"load {size} px, {_NAMES[place]}", ours, "a copy", copied, options.repeats))
            ours = _loading(large, size, "device", True, count, batch_size)
            theirs = partial(_next, plain.batches(images, size.width, 64, CORES), 20)
            beside = "ImageFolder, DataLoader, not mirrored"
            rows.append(alternate(f"load {size} px, half mirrored", ours, beside, theirs, options.repeats))
    return rows


def _next(batches: Iterator[Tensor], count: int) -> float:
    return settled(rate(count * 64, lambda: _drop(next(batches) for _ in range(count))))


def _drop(batches: Iterable[object]) -> None:
    """Take them one after the other, keeping none."""
    for _ in batches:
        pass


def enlarged(block: Block, size: Size, folder: Path) -> Block:
    """The images of a block again and again, so that they do not fit into the processor's caches."""
    rows = np.concatenate(block.shards(size))
    shards = -(-LARGE // rows.nbytes)
    (folder / str(size)).mkdir(parents=True)
    files = {}
    for shard in range(shards):
        path = folder / shard_name(size, shard)
        path.write_bytes(shard_header(len(rows), size, block.channels) + rows.tobytes())
        files[shard_name(size, shard)] = {"sha256": digest_file(path), "rows": len(rows), "bytes": path.stat().st_size}
    count = np.arange(shards * len(rows), dtype=np.int32)
    columns = {"label": 0 * count, "split": 0 * count, "shard": count // len(rows), "row": count % len(rows)}
    parquet.write(folder / ledger_name(0), columns)
    write_index(folder, block.facts | {"images": len(count), "sizes": [size.plain()], "files": files})
    return Block.open(folder)


_NAMES: dict[Place, str] = {"device": "from memory", "map": "from the memory map"}


def _loading(block: Block, size: Size, place: Place, flip: bool, count: int, batch_size: int) -> Callable[[], float]:
    loader = Loader(block, size, "all", seed=0, flip=flip, place=place)
    loader.batch(0, batch_size)
    loader.check()  # what is compared in the background is not to be measured
    return lambda: rate(count, lambda: _drop(loader.batch(seen, batch_size) for seen in range(0, count, batch_size)))


def _copy(block: Block, size: Size, count: int, batch_size: int) -> None:
    """As many bytes in the order in which they lie, into batches of their own."""
    shards = [np.asarray(shard) for shard in block.shards(size)]
    steps = len(shards[0]) // batch_size
    for number in range(count // batch_size):
        start = number % steps * batch_size
        shards[number // steps % len(shards)][start : start + batch_size].copy()
