"""Preparation and loading: beside the plain way, beside their own floor, and beside a copy of the same bytes."""

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks import plain
from benchmarks.compare import Row, alternate, rate
from genmodel.data.block import Block
from genmodel.data.loader import Loader
from genmodel.data.prepare import prepare
from genmodel.data.resize import decode, resize_all
from genmodel.data.store import Place

CORES = os.cpu_count() or 1
BATCH = 64


def measure_prepare(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """Raw JPEGs to finished uint8 arrays on disk, all cores."""
    count = len(block)

    def ours(*sizes: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            return rate(count, lambda: prepare(str(images), Path(scratch) / "data", sizes))

    def theirs(size: int) -> float:
        with tempfile.TemporaryDirectory() as scratch:
            return rate(count, lambda: plain.prepare(images, size, Path(scratch) / "array.npy", CORES))

    def row(what: str, sizes: Sequence[int], beside: str, other: Callable[[], float]) -> Row:
        return alternate(f"prepare {what}, {CORES} cores", lambda: ours(*sizes), beside, other, options.repeats)

    files = [path.read_bytes() for path in sorted(images.rglob("*")) if path.is_file()]
    with get_context("fork").Pool(CORES) as pool:

        def floor() -> float:
            return rate(count, lambda: pool.map(_convert, files, 16))

        return [
            row("64 px", [64], "ImageFolder, Resize, CenterCrop", partial(theirs, 64)),
            row("256 px", [256], "ImageFolder, Resize, CenterCrop", partial(theirs, 256)),
            row("256 px", [256], "decode and resize alone", floor),
            row("64, 128 and 256 px", [64, 128, 256], "256 px alone", lambda: ours(256)),
        ]


def _convert(content: bytes) -> None:
    resize_all(decode(content)[0], [256])


def measure_load(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """Shuffled batches of 64, without a model."""
    rows = []
    for size in block.sizes:
        count = BATCH * (2_000 if size == 64 else 200)
        copied = partial(rate, count, partial(_copy, block, size, count))
        for place in ("device", "map"):
            ours = _loading(block, size, place, False, count)
            rows.append(alternate(f"load {size} px, {_NAMES[place]}", ours, "a copy", copied, options.repeats))
        batches, few = plain.batches(images, size, BATCH, CORES), BATCH * 6

        def theirs(batches=batches, few=few) -> float:  # type: ignore[no-untyped-def]
            return rate(few, lambda: [next(batches) for _ in range(few // BATCH)])

        ours = _loading(block, size, "device", True, count)
        beside = "ImageFolder, DataLoader, flips in neither"
        rows.append(alternate(f"load {size} px, mirrored by half", ours, beside, theirs, options.repeats))
    return rows


_NAMES: dict[Place, str] = {"device": "from memory", "map": "from the memory map"}


def _loading(block: Block, size: int, place: Place, flip: bool, count: int) -> Callable[[], float]:
    loader = Loader(block, size, "all", seed=0, flip=flip, place=place)
    loader.batch(0, BATCH)
    loader.check()  # what is compared in the background is not to be measured
    return lambda: rate(count, lambda: [loader.batch(seen, BATCH) for seen in range(0, count, BATCH)])


def _copy(block: Block, size: int, count: int) -> None:
    """As many bytes in the order in which they lie, into batches of their own."""
    shard = np.asarray(max(block.shards(size), key=len))
    for start in range(0, count, BATCH):
        start %= len(shard) - BATCH
        shard[start : start + BATCH].copy()
