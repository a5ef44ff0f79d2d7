"""The block: resized images in memory-mapped shards, a ledger of where each came from, and digests of it all.

data/block.json             sizes, channels, classes, recipe, generations (source, decoders, counts), files' sha256
data/ledger-000.parquet     one row per image: name, class, label, split, sha256, original facts, shard, row
data/rejects-000.parquet    what could not be used, and why
data/64/shard-00000.npy     uint8 [rows, 64, 64, channels], NHWC, in canonical order (class, then name)
data/128x64/...             images that are 128 wide and 64 high

An update adds a generation: further shards and ledgers of its own. What an earlier one wrote never changes.

Format 3 has sizes that are 64 or "128x64" (width x height), and 1 (grey), 3 (RGB) or 4 (RGBA) channels. Format 2, also
readable, has squares of 3 channels.
"""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np

from genmodel.data import parquet
from genmodel.errors import BlockError
from genmodel.files import durable
from genmodel.output import progress
from genmodel.output.counting import counted
from genmodel.sizes import Size

FORMAT = 3
READABLE = 2, 3  # 2: squares of three channels, only a count of ignored files, no unlabelled images
UNLABELLED = -1  # the label of an image without a class, whose class in the ledger is ""
HEADER = 128  # bytes before a shard's first row
SPLITS = {"train": 0, "val": 1}

Split = Literal["train", "val", "all"]


def shard_name(size: Size, shard: int) -> str:
    """A shard's path inside the block."""
    return f"{size}/shard-{shard:05d}.npy"


def ledger_name(generation: int) -> str:
    """The path, inside the block, of the ledger of a generation's images."""
    return f"ledger-{generation:03d}.parquet"


def rejects_name(generation: int) -> str:
    """The path, inside the block, of the ledger of a generation's rejects."""
    return f"rejects-{generation:03d}.parquet"


def shard_header(rows: int, size: Size, channels: int) -> bytes:
    """The .npy header of uint8 [rows, height, width, channels], 128 bytes for any number of rows."""
    facts = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {(rows, *size, channels)}, }}"
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + facts.encode().ljust(HEADER - 11) + b"\n"


def write_index(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write block.json, with a checksum of its own content."""
    durable.write_sealed(folder / "block.json", facts)


class Block:
    """A block, opened by `Block.open`. Image i (0 <= i < len) is the ledger's row i."""

    def __init__(self, path: Path, facts: dict[str, Any], digest: str) -> None:
        self.path = path
        self.facts = facts  # block.json
        self.digest = digest  # sha256 of block.json, which holds the digests of all other files
        self.sizes = [Size.of(size) for size in facts["sizes"]]
        self.channels: int = facts.get("channels", 3)  # 1: grey, 3: RGB, 4: RGBA
        self.classes: list[str] = facts["classes"]
        self.resize: str = facts.get("recipe", facts)["resize"]
        columns = self.ledger(["label", "split", "shard", "row"])
        self.labels: np.ndarray = columns["label"]  # int32 [n], UNLABELLED where there is none
        self.splits: np.ndarray = columns["split"]  # int32 [n], values of SPLITS
        self._shard, self._row = columns["shard"], columns["row"]
        self._maps: dict[Size, list[np.ndarray]] = {}

    @classmethod
    def open(cls, path: Path) -> "Block":
        """Open a block without reading its pixels; BlockError if it is missing, damaged or of another version."""
        index = path / "block.json"
        try:
            content = index.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            fix = f"make it with `genmodel prepare SOURCE --out {path} --sizes 64`, or pull it"
            raise BlockError(f"there is no block at {path}: {fix}") from error
        try:
            facts = json.loads(content)
            version = facts["format"]
            checksum = facts.pop("checksum", None)
        except (RecursionError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BlockError(f"{index} is damaged: pull or prepare the block again") from error
        if version not in READABLE:
            known = " or ".join(map(str, READABLE))
            raise BlockError(f"{path} is a block of format {version!r}, not {known}: prepare it again")
        if checksum != durable.digest_json(facts):
            raise BlockError(f"{index} is damaged: its checksum does not match; pull or prepare the block again")
        block = cls(path, facts, durable.digest_bytes(content))
        if len(block) != facts["images"]:
            raise BlockError(
                f"{path}: the ledgers list {counted(len(block), 'image')}, block.json {facts['images']}: pull it again"
            )
        return block

    def ledger(self, columns: Sequence[str] | None = None) -> dict[str, Any]:
        """The named columns (all by default) of every image, of all generations: int32 [n], or lists of n strings.

        BlockError unless each ledger's sha256 is that in block.json: the ledger decides which images are trained on.
        """
        return self._table(ledger_name, columns)

    def rejects(self) -> dict[str, list[str]]:
        """The name, class, sha256 and reason of every reject, of all generations."""
        return self._table(rejects_name)

    def _table(self, name_of: Callable[[int], str], columns: Sequence[str] | None = None) -> dict[str, Any]:
        names = [name_of(number) for number in range(len(self.facts["generations"]))]
        files = self.facts["files"]
        return _joined([parquet.read(self.path / name, columns, files[name]["sha256"]) for name in names])

    def shard_count(self) -> int:
        """How many shards there are of each size."""
        return sum(name.startswith(f"{self.sizes[0]}/") for name in self.facts["files"])

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, split: Split) -> np.ndarray:
        """The images of a split in canonical order, int64 indexes [m]; BlockError if there are none."""
        rows = np.arange(len(self)) if split == "all" else np.flatnonzero(self.splits == SPLITS[split])
        if not len(rows):
            raise BlockError(f"{self.path} has no images in split {split}: prepare it with another --val-fraction")
        return rows

    def shards(self, size: Size | int | str) -> list[np.ndarray]:
        """The shards of a size as memory maps, uint8 [rows, H, W, C] each; BlockError if there are none."""
        size = Size.of(size)
        if size not in self.sizes:
            has = ", ".join(map(str, self.sizes))
            wanted = ",".join(map(str, sorted({*self.sizes, size})))
            raise BlockError(f"{self.path} has {has} px, not {size}: prepare it with --sizes {wanted}")
        if size not in self._maps:
            self._maps[size] = [self._map(size, shard) for shard in range(self.shard_count())]
        return self._maps[size]

    def _map(self, size: Size, shard: int) -> np.ndarray:
        name = shard_name(size, shard)
        rows = self.facts["files"][name]["rows"]
        shape = (rows, *size, self.channels)
        try:
            if (self.path / name).stat().st_size != HEADER + math.prod(shape):
                raise BlockError(f"{self.path / name} is damaged, its length does not match block.json: pull it again")
            if not rows:
                return np.empty(shape, np.uint8)
            return np.memmap(self.path / name, np.uint8, "r", HEADER, shape)
        except FileNotFoundError as error:
            raise BlockError(f"{self.path / name} is missing: pull or prepare the block again") from error

    def gather(self, size: Size | int | str, indexes: np.ndarray) -> np.ndarray:
        """Copies of the images at `indexes` (int64 [n], any order): uint8 [n, H, W, C]. `size`: 64 or "128x64"."""
        size = Size.of(size)
        maps = self.shards(size)
        result = np.empty((len(indexes), *size, self.channels), np.uint8)
        shards, rows = self._shard[indexes], self._row[indexes]
        for shard in np.unique(shards):
            places = np.flatnonzero(shards == shard)
            result[places] = np.asarray(maps[shard])[rows[places]]
        return result

    def verify(self, watch: bool = True) -> list[str]:
        """Read every byte; a line for each damaged, missing or extra file and each disagreement."""
        files: dict[str, dict[str, Any]] = self.facts["files"]
        bar = progress.bar(sum(facts["bytes"] for facts in files.values()), 0, "verify", "B") if watch else None

        def check(name: str) -> str:
            problem = _damage(self.path / name, files[name])
            if bar:
                bar.update(files[name]["bytes"])
            return problem

        with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
            found = zip(files, pool.map(check, files), strict=True)
            problems = [f"{name}: {problem}" for name, problem in found if problem]
        if bar:
            bar.close()
        problems += [f"{name}: does not belong to the block" for name in _names(self.path) if name not in files]
        return problems or list(_disagreements(self))


def _joined(tables: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Tables of the same columns, concatenated; string columns that a table lacks are empty."""
    if len(tables) == 1:
        return dict(tables[0])
    columns = {name: column for table in tables for name, column in table.items()}
    counts = [len(next(iter(table.values()), "")) for table in tables]
    return {
        name: np.concatenate([table[name] for table in tables])
        if isinstance(column, np.ndarray)
        else [text for table, count in zip(tables, counts, strict=True) for text in table.get(name, [""] * count)]
        for name, column in columns.items()
    }


def _damage(path: Path, facts: Mapping[str, Any]) -> str:
    try:
        size = path.stat().st_size
        if size != facts["bytes"]:
            return f"has {size:,} bytes, not {facts['bytes']:,}"
        return (
            "" if durable.digest_file(path) == facts["sha256"] else "is damaged: its sha256 does not match block.json"
        )
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _names(folder: Path) -> list[str]:
    """All files in the block except block.json."""
    found = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())
    return sorted(set(found) - {"block.json"})


def _disagreements(block: Block) -> Iterator[str]:
    """Where the ledgers, the shards and block.json disagree, although every file matches its digest."""
    ledger = block.ledger()
    for number, facts in enumerate(block.facts["generations"]):
        for name, expected in ((ledger_name(number), facts["images"]), (rejects_name(number), facts["rejected"])):
            count = len(parquet.read(block.path / name, ["name"])["name"])
            if count != expected:
                yield f"{name}: has {counted(count, 'row')}, block.json says {expected}"
    if ledger["class"] != [block.classes[label] if 0 <= label < len(block.classes) else "" for label in block.labels]:
        yield "ledger: labels and classes differ"
    if not np.isin(block.splits, list(SPLITS.values())).all():
        yield "ledger: a split is neither train nor val"
    for size in block.sizes:
        rows = [len(shard) for shard in block.shards(size)]
        expected = [(shard, row) for shard, count in enumerate(rows) for row in range(count)]
        if expected != list(zip(ledger["shard"].tolist(), ledger["row"].tolist(), strict=True)):
            yield f"ledger: its shards and rows are not those of the {size} px shards"
        for shard, count in enumerate(rows):
            with (block.path / shard_name(size, shard)).open("rb") as handle:
                if handle.read(HEADER) != shard_header(count, size, block.channels):
                    yield f"{shard_name(size, shard)}: its header is not that of {counted(count, 'image')}"
