"""Raw images -> block: parallel, resumable, with the same bytes for any number of workers and any order of the source.

The canonical list of members (class, then name) is cut into shards of a fixed number of members, the same for every
size, and a shard into slices (shards.py). Processes of this machine make them (pool.py), or whatever else is given as
`make`. All of it happens in `<out>.partial`, which a kill leaves behind and the same command takes up; the finished
block is renamed into place.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from genmodel.data.block import FORMAT, Block
from genmodel.data.making.account import scan
from genmodel.data.making.finish import write_generation
from genmodel.data.making.pool import make_shards
from genmodel.data.making.recipe import Recipe
from genmodel.data.making.resize import RECIPE, versions
from genmodel.data.making.shards import Job, Outcome, Slice, is_accepted, read_part
from genmodel.data.sources.arrays import Digits
from genmodel.data.sources.checksums import checking
from genmodel.data.sources.layout import Layout
from genmodel.data.sources.members import Listing, Member, Source
from genmodel.data.sources.opening import open_source
from genmodel.errors import BlockError, ConfigError, SourceError
from genmodel.files import durable
from genmodel.output import progress

SHARD_BYTES = 128 << 20

# (job, members, rows, shards, workers) -> every slice with its outcomes when it is made, as pool.make_shards
Maker = Callable[[Job, Sequence[Member], int, Sequence[int], int], Iterator[tuple[Slice, list[Outcome]]]]


def prepare(
    source: str,
    out: Path,
    sizes: Sequence[int],
    workers: int = 0,
    val_fraction: float = 0.1,
    max_reject_share: float = 0.01,
    devkit: Path | None = None,
    layout: Layout = Layout(),  # noqa: B008
    recipe: Recipe = Recipe(),  # noqa: B008
    make: Maker = make_shards,
) -> Block:
    """Make the block `out` of the raw images at `source` (see open_source), an older block giving way at the end.

    `sizes` are in pixels; `workers` are processes, 0 for one more than cores; an image is in split "val" if its bytes'
    sha256 falls into the lowest `val_fraction`; `layout` says what the source's folders mean, `recipe` how an image
    becomes pixels; `make` makes the shards. ConfigError for settings out of range;
    SourceError for a bad source, or if more than `max_reject_share` of the images cannot be used; StorageError for a
    full disk. On any error `out` is as it was before.
    """
    check_settings(val_fraction, max_reject_share, sizes, workers)
    if layout.allow_new_classes:
        raise ConfigError("--allow-new-classes is for --update: all classes are new in a block that is made anew")
    sizes = sorted(set(sizes))
    if durable.is_foreign(out, "block.json"):
        raise BlockError(f"{out} is there and is not a block: move it away or choose another --out")
    origin = open_source(source, devkit, out.parent)
    rows = shard_rows(max(sizes))
    with checking(origin.files) as finish_checking:
        listing = scan(origin, source, layout)
        with workplace(out, plan(source, origin, listing, sizes, rows, layout, recipe)) as place:
            job = Job(origin, place, sizes)
            convert(job, listing.members, rows, workers, max_reject_share * len(listing.members), make)
            finish_checking()
            write_generation(job, listing.members, rows, val_fraction, listing)
            durable.replace_folder(place / "block", out)
    return Block.open(out)


def shard_rows(size: int) -> int:
    """Members a shard: the largest power of two whose rows at `size` px take at most 128 MiB."""
    return 1 << (SHARD_BYTES // (size * size * 3)).bit_length() - 1


def check_settings(val_fraction: float, max_reject_share: float, sizes: Sequence[int], workers: int = 0) -> None:
    """ConfigError, naming the option, for a setting out of range."""
    if not sizes or not all(8 <= size <= 4096 for size in sizes):
        raise ConfigError(f"--sizes: give sizes from 8 to 4096 px such as 64,256, not {','.join(map(str, sizes))!r}")
    if workers < 0:
        raise ConfigError(f"--workers: must be at least 1, or 0 for one a core, not {workers}")
    for option, value in (("--val-fraction", val_fraction), ("--allow-rejects", max_reject_share)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{option}: must be between 0 and 1, not {value!r}")


def _enough_workers() -> int:
    """One a core and one more, which has the core of whichever waits for the disk: 6% faster on two cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def plan(
    source: str,
    origin: Source,
    listing: Listing,
    sizes: Sequence[int],
    rows: int,
    layout: Layout,
    recipe: Recipe,
    base: str = "",
) -> dict[str, Any]:
    """All that the bytes of unfinished shards depend on; a partial preparation of another plan is not taken up.

    `base` is the digest of the block that is updated.
    """
    return {
        "format": FORMAT,
        "source": source if isinstance(origin, Digits) else str(Path(source).resolve()),
        "stamp": origin.stamp,
        "members": _digest(listing.members),
        "sizes": list(sizes),
        "base": base,
        "layout": layout.as_dict(),
        "recipe": recipe.as_dict(),
        "resize": RECIPE,
        "versions": versions(),
        "shard_rows": rows,
    }


def _digest(members: Sequence[Member]) -> str:
    """Of all members one after the other: their text in one piece would take as much memory as they do."""
    digest = hashlib.sha256()
    for member in members:
        digest.update(repr(member).encode())
    return digest.hexdigest()


@contextlib.contextmanager
def workplace(out: Path, plan: dict[str, Any]) -> Iterator[Path]:
    """The folder `<out>.partial`, ours alone, with what an earlier run of the same plan left; removed at the end."""
    place = out.with_name(out.name + ".partial")
    with durable.storage_errors(place), _locked(place):
        if not (place / "plan.json").exists() or json.loads((place / "plan.json").read_text()) != plan:
            for child in ("plan.json", "seen", "block", "parts"):
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


def convert(job: Job, members: Sequence[Member], rows: int, workers: int, allowed: float, make: Maker) -> None:
    """Make every shard that is not there yet; SourceError if more than `allowed` members, or all, are rejected."""
    rejects: list[tuple[str, str]] = []
    seen = 0
    for some, outcomes in outcomes_of(job, members, rows, workers, make, "prepare"):
        seen += len(outcomes)
        rejects += _rejects(some, outcomes)
        if len(rejects) > allowed:
            break
    if len(rejects) > allowed or (rejects and not job.first_shard and len(rejects) == len(members)):
        first = "; ".join(f"{name}: {reason}" for name, reason in sorted(rejects)[:3])
        fix = "fix the source, or allow it with --allow-rejects"
        raise SourceError(f"{len(rejects):,} of {seen:,} images cannot be used ({first}): {fix}")


def outcomes_of(
    job: Job, members: Sequence[Member], rows: int, workers: int, make: Maker, what: str
) -> Iterator[tuple[Sequence[Member], list[Outcome]]]:
    """Members with their outcomes: those of finished shards first, then the rest as workers get on with it."""
    with durable.storage_errors(job.place):
        for folder in ("parts", *(f"block/{size}" for size in job.sizes)):
            (job.place / folder).mkdir(parents=True, exist_ok=True)
    todo, seen = [], 0
    for shard in range(-(-len(members) // rows)):
        part = read_part(job.place, shard)
        if part is None:
            todo.append(shard)
        else:
            seen += len(part["outcomes"])
            yield members[shard * rows : (shard + 1) * rows], part["outcomes"]
    bar = progress.bar(len(members), seen, what)
    try:
        for piece, outcomes in make(job, members, rows, todo, workers or _enough_workers()):
            bar.update(len(outcomes))
            yield piece.members, outcomes
    finally:
        bar.close()


def _rejects(members: Sequence[Member], outcomes: Sequence[Outcome]) -> list[tuple[str, str]]:
    pairs = zip(members, outcomes, strict=True)
    return [(member.name, str(outcome[1])) for member, outcome in pairs if not is_accepted(outcome)]
