"""Raw images -> block: parallel, resumable, with the same bytes for any number of workers and any order of the source.

The canonical list of members (class, then name) is cut into shards of a fixed number of members, the same for every
size, and a shard into slices, the unit of work (genmodel/data/shards.py). All of it happens in `<out>.partial`, which
a kill leaves behind and the same command takes up; the finished block is renamed into place.
"""

import contextlib
import fcntl
import json
import os
import shutil
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from genmodel import durable, progress
from genmodel.data import parquet
from genmodel.data.block import FORMAT, LEDGER, REJECTS, SPLITS, Block, write_index
from genmodel.data.members import Listing, Member
from genmodel.data.pool import make_shards
from genmodel.data.resize import RECIPE, versions
from genmodel.data.shards import Job, Outcome, is_accepted, read_part
from genmodel.data.sources import Source, open_source
from genmodel.errors import BlockError, ConfigError, SourceError

SHARD_BYTES = 128 << 20
_LEDGER = "name", "class", "label", "split", "sha256", "width", "height", "mode", "format", "repairs", "shard", "row"
_NUMBERS = {"label", "split", "width", "height", "shard", "row"}


def prepare(
    source: str,
    out: Path,
    sizes: Sequence[int],
    workers: int = 0,
    val_fraction: float = 0.1,
    max_reject_share: float = 0.01,
) -> Block:
    """Make the block `out` of the raw images at `source` (see open_source), an older block giving way at the end.

    `sizes` are in pixels; `workers` are processes, 0 for all cores; an image is in split "val" if its bytes' sha256
    falls into the lowest `val_fraction`. ConfigError for settings out of range; SourceError for a bad source, or if
    more than `max_reject_share` of the images cannot be used; StorageError for a full disk. On any error `out` is as
    it was before.
    """
    sizes = _checked(sizes, workers, val_fraction, max_reject_share)
    if durable.is_foreign(out, "block.json"):
        raise BlockError(f"{out} is there and is no block: move it away or choose another --out")
    origin = open_source(source)
    listing = origin.scan()
    if not listing.members:
        passed = f" ({listing.ignored:,} other files)" if listing.ignored else ""
        raise SourceError(f"{source} holds no images{passed}: give a folder or an archive of JPEG, PNG, ... files")
    rows = shard_rows(max(sizes))
    with _workplace(out, _plan(source, origin, listing, sizes, rows)) as place:
        with durable.storage_errors(place):
            for folder in ("parts", *(f"block/{size}" for size in sizes)):
                (place / folder).mkdir(parents=True, exist_ok=True)
        _fill(Job(origin, place, sizes), listing.members, rows, workers or _cores(), max_reject_share)
        facts = {"source": origin.name, "sizes": sizes, "val_fraction": val_fraction, "ignored": listing.ignored}
        _merge(place, listing.members, rows, facts)
        durable.replace_folder(place / "block", out)
    return Block.open(out)


def shard_rows(size: int) -> int:
    """Members a shard: the largest power of two whose rows at `size` px take at most 128 MiB."""
    return 1 << (SHARD_BYTES // (size * size * 3)).bit_length() - 1


def _checked(sizes: Sequence[int], workers: int, val_fraction: float, max_reject_share: float) -> list[int]:
    if not sizes or not all(8 <= size <= 4096 for size in sizes):
        raise ConfigError(f"--sizes: give sizes from 8 to 4096 px such as 64,256, not {','.join(map(str, sizes))!r}")
    if workers < 0:
        raise ConfigError(f"--workers: must be at least 1, or 0 for one a core, not {workers}")
    for option, value in (("--val-fraction", val_fraction), ("--allow-rejects", max_reject_share)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{option}: must be between 0 and 1, not {value!r}")
    return sorted(set(sizes))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _plan(source: str, origin: Source, listing: Listing, sizes: list[int], rows: int) -> dict[str, Any]:
    """All that the bytes of unfinished shards depend on; a partial preparation of another plan is not taken up."""
    return {
        "format": FORMAT,
        "source": source if source == "digits" else str(Path(source).resolve()),
        "stamp": origin.stamp,
        "members": durable.digest_bytes(repr(listing.members).encode()),
        "sizes": sizes,
        "resize": RECIPE,
        "versions": versions(),
        "shard_rows": rows,
    }


@contextlib.contextmanager
def _workplace(out: Path, plan: dict[str, Any]) -> Iterator[Path]:
    """The folder `<out>.partial`, ours alone, with what an earlier run of the same plan left; removed at the end."""
    place = out.with_name(out.name + ".partial")
    with durable.storage_errors(place), _locked(place):
        if not (place / "plan.json").exists() or json.loads((place / "plan.json").read_text()) != plan:
            for child in ("plan.json", "block", "parts"):
                path = place / child
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            durable.write_json(place / "plan.json", plan)
        yield place
        shutil.rmtree(place)


def _locked(place: Path) -> IO[str]:
    """An open file whose lock says that the folder is in use; BlockError if another process goes on holding it."""
    deadline = time.monotonic() + 5  # the workers of a killed run need a moment to notice
    while True:
        place.mkdir(parents=True, exist_ok=True)
        handle = (place / "lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle.fileno()).st_nlink:  # or else the run that held it has removed the folder
                return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BlockError(f"another process is preparing {place}: wait for it, or end it") from None
            time.sleep(0.1)
        handle.close()


def _fill(job: Job, members: list[Member], rows: int, workers: int, max_reject_share: float) -> None:
    """Make every shard that is not there yet."""
    rejects: list[tuple[str, str]] = []
    todo, seen = [], 0
    for shard in range(-(-len(members) // rows)):
        part = read_part(job.place, shard)
        if part is None:
            todo.append(shard)
        else:
            seen += len(part["outcomes"])
            rejects += _rejects(members[shard * rows : (shard + 1) * rows], part["outcomes"])
    bar = progress.bar(len(members), seen, "prepare")
    for piece, outcomes in make_shards(job, members, rows, todo, workers):
        seen += len(outcomes)
        rejects += _rejects(piece.members, outcomes)
        bar.update(len(outcomes))
        if len(rejects) > max_reject_share * len(members):
            break
    bar.close()
    if len(rejects) > max_reject_share * len(members) or len(rejects) == len(members):
        first = "; ".join(f"{name}: {reason}" for name, reason in sorted(rejects)[:3])
        mend = "mend the source, or allow it with --allow-rejects"
        raise SourceError(f"{len(rejects):,} of {seen:,} images cannot be used ({first}): {mend}")


def _rejects(members: Sequence[Member], outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    pairs = zip(members, outcomes, strict=True)
    return [(member.name, str(outcome[1])) for member, outcome in pairs if not is_accepted(outcome)]


def _merge(place: Path, members: list[Member], rows: int, facts: dict[str, Any]) -> None:
    """Join the shards' parts into the ledgers and block.json."""
    for path in (place / "block").glob(".*.partial"):  # of a run killed while it wrote a ledger
        path.unlink()
    classes = sorted({member.class_name for member in members if not member.refused})
    labels = {name: label for label, name in enumerate(classes)}
    ledger: dict[str, Any] = {name: array("i") if name in _NUMBERS else [] for name in _LEDGER}
    rejects: dict[str, Any] = {name: [] for name in ("name", "class", "sha256", "reason")}
    files: dict[str, dict[str, Any]] = {}
    for shard in range(-(-len(members) // rows)):
        part = read_part(place, shard)
        assert part is not None, f"shard {shard} is not finished"
        files |= part["files"]
        row = 0
        for member, outcome in zip(members[shard * rows : (shard + 1) * rows], part["outcomes"], strict=True):
            if is_accepted(outcome):
                digest, width, height, *kinds = outcome
                split = SPLITS["val" if int(digest[:8], 16) < facts["val_fraction"] * 2**32 else "train"]
                kinds = map(sys.intern, kinds)
                label = labels[member.class_name]
                _append(ledger, member.name, member.class_name, label, split, digest, width, height, *kinds, shard, row)
                row += 1
            else:
                _append(rejects, member.name, member.class_name, *outcome)
    for name, table in ((LEDGER, ledger), (REJECTS, rejects)):
        path = place / "block" / name
        columns = {key: np.array(col, np.int32) if isinstance(col, array) else col for key, col in table.items()}
        parquet.write(path, columns)
        count = len(columns["name"])
        files[name] = {"sha256": durable.digest_file(path), "rows": count, "bytes": path.stat().st_size}
    counts = {"images": len(ledger["name"]), "rejected": len(rejects["name"])}
    made = {"format": FORMAT, "resize": RECIPE, "versions": versions(), "classes": classes, "files": files}
    write_index(place / "block", {**made, **counts, **facts})


def _append(table: dict[str, Any], *values: object) -> None:
    for column, value in zip(table.values(), values, strict=True):
        column.append(value)
