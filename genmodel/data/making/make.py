"""Raw images -> block: parallel, resumable, with the same bytes for any number of workers and any order of the source.

The canonical list of members (class, then name) is cut into shards of a fixed number of members, the same for every
size, and a shard into slices (shards.py). Processes of this machine make them (pool.py), or whatever else is given as
`make`. All work happens in `<out>.partial`, which a kill leaves behind and the same command resumes; the finished block
is renamed into place.
"""

import contextlib
import fcntl
import hashlib
import json
import math
import os
import shutil
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any

from genmodel.data.block import FORMAT, Block
from genmodel.data.imaging.decode import COLOURED, decode, versions
from genmodel.data.making import same
from genmodel.data.making.account import scan
from genmodel.data.making.finish import write_generation
from genmodel.data.making.pool import make_shards
from genmodel.data.making.recipe import Recipe
from genmodel.data.making.shards import Job, Outcome, Slice, is_accepted, read_part
from genmodel.data.sources.checksums import checking
from genmodel.data.sources.datasets.arrays import Digits
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import Listing, Member, Reject, Source
from genmodel.data.sources.opening import open_source
from genmodel.errors import BlockError, ConfigError, GenmodelError, SourceError
from genmodel.files import durable
from genmodel.output import progress
from genmodel.output.counting import counted
from genmodel.sizes import Size

SHARD_BYTES = 128 << 20
_LOOKED_AT = 256  # images, to see whether all are grey

# (job, members, rows, shards, workers) -> every slice with its outcomes when it is made, like pool.make_shards
Maker = Callable[[Job, Sequence[Member], int, Sequence[int], int], Iterator[tuple[Slice, list[Outcome]]]]


class ColouredError(GenmodelError):
    """An image, by its name, that does not fit in a block of grey ones."""


def prepare(
    source: str,
    out: Path,
    sizes: Sequence[Size | int | str],
    workers: int = 0,
    val_fraction: float = 0.1,
    max_reject_share: float = 0.01,
    devkit: Path | None = None,
    layout: Layout = Layout(),  # noqa: B008
    recipe: Recipe = Recipe(),  # noqa: B008
    make: Maker = make_shards,
) -> Block:
    """Make the block `out` of the raw images at `source` (see open_source), replacing an older block at the end.

    `sizes` are in pixels; `workers` are processes, 0 for cores + 1; an image is in split "val" if its bytes'
    sha256 falls into the lowest `val_fraction`; `layout` says what the source's folders mean, `recipe` how an image
    becomes pixels; `make` makes the shards. ConfigError for settings out of range; SourceError for a bad source, or if
    more than `max_reject_share` of the images cannot be used; StorageError for a full disk. On any error `out` is left
    as it was.
    """
    check_settings(val_fraction, max_reject_share, sizes, workers)
    if layout.allow_new_classes:
        raise ConfigError("--allow-new-classes goes with --update: in a new block all classes are new")
    wanted = sorted({Size.of(size) for size in sizes})
    if durable.is_foreign(out, "block.json"):
        raise BlockError(f"{out} exists and is not a block: move it away or choose another --out")
    origin = open_source(source, devkit, out.parent)
    with checking(origin.files) as finish_checking:
        listing = scan(origin, source, layout)
        members = listing.members
        recipe = recipe.for_classes({member.class_name for member in members if not member.refused})

        whole = plan(source, origin, listing, wanted, 0, layout, recipe)

        def plan_of(tried: Recipe) -> dict[str, Any]:
            return whole | {"recipe": asdict(tried), "shard_rows": shard_rows(wanted, tried)}

        for tried in _tries(recipe, lambda tried: is_begun(out, plan_of(tried)), origin, members):
            rows = shard_rows(wanted, tried)
            with workplace(out, plan_of(tried)) as place:
                job = Job(origin, place, wanted, tried)
                try:
                    convert(job, members, rows, workers, max_reject_share * len(members), make)
                except ColouredError as found:
                    progress.say(f"{found} has colours and the images before it have none: starting over in colour")
                    continue
                finish_checking()
                if tried.duplicates == "drop":
                    same.leave_out(job, members, rows, None)
                write_generation(job, members, rows, val_fraction, listing)
                durable.replace_folder(place / "block", out)
            break
    return Block.open(out)


def _tries(
    recipe: Recipe, is_begun: Callable[[Recipe], bool], origin: Source, members: Sequence[Member]
) -> Iterator[Recipe]:
    """The recipe; if it leaves the channels to the images, first with one, then, if that proves wrong, with three.

    One is skipped if a sample of the images shows colours, or if an earlier run has already found some.
    """
    if recipe.channels is not None:
        yield recipe
        return
    grey, colour = replace(recipe, channels=1), replace(recipe, channels=3)
    if not is_begun(colour) and (is_begun(grey) or not _some_coloured(grey, origin, members)):
        yield grey
    yield colour


def _some_coloured(recipe: Recipe, origin: Source, members: Sequence[Member]) -> bool:
    """Whether one of a few has colours: from all over the source, or its first if reading it means unpacking."""
    found = sorted((member for member in members if not member.refused), key=lambda member: member.locator)
    apart = 1 if found and origin.unit(found[0]) is not None else -(-len(found) // _LOOKED_AT)
    for member in found[:: max(1, apart)][:_LOOKED_AT]:
        try:
            decode(origin.read(member), recipe)
        except Reject as reject:
            if str(reject) == COLOURED:
                return True
    return False


def shard_rows(sizes: Sequence[Size], recipe: Recipe) -> int:
    """Members per shard: the largest power of two whose rows at the largest size take at most 128 MiB."""
    assert recipe.channels is not None
    return 1 << (SHARD_BYTES // (max(map(math.prod, sizes)) * recipe.channels)).bit_length() - 1


def check_settings(
    val_fraction: float, max_reject_share: float, sizes: Sequence[Size | int | str], workers: int = 0
) -> None:
    """ConfigError, naming the option, for a setting out of range."""
    try:
        known = [Size.of(size) for size in sizes]
    except ValueError as error:
        raise ConfigError(f"--sizes: {error}") from None
    if not known:
        raise ConfigError("--sizes: give sizes such as 64,128x64 (width x height)")
    if workers < 0:
        raise ConfigError(f"--workers: must be at least 1, or 0 for one more than there are cores, not {workers}")
    for option, value in (("--val-fraction", val_fraction), ("--allow-rejects", max_reject_share)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{option}: must be between 0 and 1, not {value!r}")


def _enough_workers() -> int:
    """One per core and one more, which uses the core of a worker that waits for the disk: 6% faster on two cores."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + 1


def plan(
    source: str,
    origin: Source,
    listing: Listing,
    sizes: Sequence[Size],
    rows: int,
    layout: Layout,
    recipe: Recipe,
    base: str = "",
) -> dict[str, Any]:
    """All that the bytes of unfinished shards depend on; a partial preparation of another plan is not resumed.

    `base` is the digest of the block that is updated.
    """
    return {
        "format": FORMAT,
        "source": source if isinstance(origin, Digits) else str(Path(source).resolve()),
        "stamp": origin.stamp,
        "members": _digest(listing.members),
        "sizes": [size.plain() for size in sizes],
        "base": base,
        "layout": layout.as_dict(),
        "recipe": asdict(recipe),
        "versions": versions(),
        "shard_rows": rows,
    }


def is_begun(out: Path, plan: dict[str, Any]) -> bool:
    """Whether a preparation of that plan was begun and not finished."""
    try:
        return bool(json.loads((out.with_name(out.name + ".partial") / "plan.json").read_text()) == plan)
    except (OSError, ValueError):
        return False


def _digest(members: Sequence[Member]) -> str:
    """A digest of all members, one after the other: as one string they would take as much memory again."""
    digest = hashlib.sha256()
    for member in members:
        digest.update(repr(member).encode())
    return digest.hexdigest()


@contextlib.contextmanager
def workplace(out: Path, plan: dict[str, Any]) -> Iterator[Path]:
    """The folder `<out>.partial`, ours alone, with what an earlier run of the same plan left; removed at the end."""
    place = out.with_name(out.name + ".partial")
    with durable.storage_errors(place), _locked(place):
        if not is_begun(out, plan):
            for child in ("plan.json", "seen", "block", "parts"):
                path = place / child
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
            durable.write_json(place / "plan.json", plan)
        yield place
        shutil.rmtree(place)


def _locked(place: Path) -> IO[str]:
    """An open file whose lock says that the folder is in use; BlockError if another process keeps holding it."""
    deadline = time.monotonic() + 5  # the workers of a killed run need a moment to notice
    while True:
        place.mkdir(parents=True, exist_ok=True)
        handle = (place / "lock").open("w")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle.fileno()).st_nlink:  # otherwise the run that held it has removed the folder
                return handle
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BlockError(f"another process is preparing {place}: wait until it ends, or stop it") from None
            time.sleep(0.1)
        handle.close()


def convert(job: Job, members: Sequence[Member], rows: int, workers: int, allowed: float, make: Maker) -> None:
    """Make every shard that is not there yet; SourceError if more than `allowed` members, or all, are rejected.

    ColouredError for an image with colours in a block of one channel, unless colours become grey.
    """
    rejects: list[tuple[str, str]] = []
    seen = 0
    with contextlib.closing(outcomes_of(job, members, rows, workers, make, "prepare")) as made:
        for some, outcomes in made:
            seen += len(outcomes)
            rejects += _rejects(some, outcomes)
            if len(rejects) > allowed:
                break
    if len(rejects) > allowed or (rejects and not job.first_shard and len(rejects) == len(members)):
        first = "; ".join(f"{name}: {reason}" for name, reason in sorted(rejects)[:3])
        fix = "fix the source, or allow more with --allow-rejects"
        raise SourceError(f"{len(rejects):,} of {counted(seen, 'image')} cannot be used ({first}): {fix}")


def outcomes_of(
    job: Job, members: Sequence[Member], rows: int, workers: int, make: Maker, what: str
) -> Generator[tuple[Sequence[Member], list[Outcome]]]:
    """Members with their outcomes: those of finished shards first, then the rest as workers finish them."""
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
    bad = [(m.name, str(o[1])) for m, o in pairs if not is_accepted(o) and not same.is_left_out(o)]
    for name, reason in bad:
        if reason == COLOURED:
            raise ColouredError(name)
    return bad
