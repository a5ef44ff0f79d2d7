"""Preparing many small files, beside a plain pool of Pillow's; in another order, and with a worker more than cores."""

import argparse
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks import plain
from benchmarks.compare import Row, alternate, rate
from benchmarks.sources import draw
from genmodel.data.block import Block
from genmodel.data.making.make import prepare

SIZE, FOLDERS, FILES = 64, 50, 500  # files a folder
ROWS, GROUP = 3000, 100  # of the tables


def measure_small(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """25,000 JPEGs that have their size already, as a folder and as a tar.gz, and Parquet of larger ones."""
    with tempfile.TemporaryDirectory() as scratch:
        folder, packed = _small(Path(scratch) / "small", options.small), Path(scratch) / "small.tar.gz"
        with tarfile.open(packed, "w:gz") as archive:
            archive.add(folder, ".")
        ordered, shuffled = _tables(images, Path(scratch))
        count = sum(1 for path in folder.rglob("*") if path.is_file())

        def ours(source: Path, count: int, workers: int = 0) -> float:
            with tempfile.TemporaryDirectory() as out:
                return rate(count, lambda: prepare(str(source), Path(out) / "data", [SIZE], workers))

        def theirs(convert: Callable[[Path, int], np.ndarray], source: Path) -> float:
            with tempfile.TemporaryDirectory() as out:
                return rate(count, lambda: np.save(Path(out) / "array.npy", convert(source, count)))

        def row(what: str, first: Callable[[], float], beside: str, second: Callable[[], float]) -> Row:
            return alternate(f"prepare {what}", first, beside, second, options.repeats)

        many = f"{count:,} JPEGs of {SIZE} px"
        return [
            row(f"{many}, a folder", partial(ours, folder, count), "a pool", partial(theirs, of_folder, folder)),
            row(f"{many}, a tar.gz", partial(ours, packed, count), "a pool", partial(theirs, of_archive, packed)),
            row(f"{many}, 3 workers", partial(ours, folder, count, 3), "2 workers", partial(ours, folder, count, 2)),
            row("Parquet, shuffled", partial(ours, shuffled, ROWS), "sorted", partial(ours, ordered, ROWS)),
        ]


def of_folder(folder: Path, count: int) -> np.ndarray:
    """All images of class folders, in order, by two processes: uint8 [count, SIZE, SIZE, 3]."""
    return _pooled((path for path in sorted(folder.rglob("*")) if path.is_file()), count)


def of_archive(packed: Path, count: int) -> np.ndarray:
    """The same of a tar.gz, which is unpacked on the way."""
    names: list[str] = []

    def contents() -> Iterator[bytes]:
        with tarfile.open(packed) as archive:
            for member in archive:
                handle = archive.extractfile(member)
                if handle is not None:
                    names.append(member.name)
                    yield handle.read()

    levels = _pooled(contents(), count)
    return levels[np.argsort(names)]


def _pooled(images: Iterator[Path] | Iterator[bytes], count: int) -> np.ndarray:
    result = np.empty((count, SIZE, SIZE, 3), np.uint8)
    with get_context("fork").Pool(2) as pool:
        for place, levels in enumerate(pool.imap(_adm, images, 64)):
            result[place] = levels
    return result


def _adm(image: Path | bytes) -> np.ndarray:
    return plain.adm(image if isinstance(image, bytes) else image.read_bytes(), SIZE)


def _small(folder: Path, given: str | None) -> Path:
    """Class folders of small JPEGs: those given, or drawn."""
    if given:
        return Path(given)
    large = [Image.open(path) for path in sorted(draw(folder / "large").rglob("*.jpg"))]
    for number in range(FOLDERS):
        place = folder / "all" / f"class{number:02d}"
        place.mkdir(parents=True)
        for file in range(FILES):
            left, top = (file * 37 + number * 11) % 436, (file * 13 + number * 29) % 311
            small = large[(file + number) % len(large)].crop((left, top, left + SIZE, top + SIZE))
            small.save(place / f"{file:03d}.jpg", quality=90)
    return folder / "all"


def _tables(images: Path, folder: Path) -> tuple[Path, Path]:
    """The images again and again as the hub has them, of 200 classes, sorted by class and not."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    contents = [path.read_bytes() for path in sorted(images.rglob("*")) if path.is_file()][:40]
    labels = np.random.default_rng(0).integers(0, 200, ROWS)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])

    def write(name: str, order: Sequence[int]) -> Path:
        path = folder / name
        some = pa.array([{"bytes": contents[row % len(contents)], "path": f"{row}.jpg"} for row in order], kind)
        table = pa.table({"image": some, "label": labels[list(order)]})
        pq.write_table(table, path, row_group_size=GROUP, compression="none")
        return path

    return write("sorted.parquet", np.argsort(labels).tolist()), write("shuffled.parquet", range(ROWS))
