"""How a shard is made: slices of members are decoded and written, the shard is finished, then put into the block.

A member's rows are written at its place, so that members may come in any order and from any process; a line with the
outcomes of a slice is then appended to a file beside the rows. A finished shard has its header and no gaps for
rejected members. Putting it into the block begins with its part, a file of digests and outcomes that says the shard is
done. Each step can be repeated after a kill and gives the same bytes.

    parts/00012.json                            the part
    parts/00012/SCRATCH/                        where the shard is made, until it is in the block:
        256.rows                                one row per member, zeros for rejected ones
        outcomes                                one line per slice: the rows that are written, and their outcomes
        256-shard-00012.npy                     the finished shard
"""

import contextlib
import hashlib
import io
import json
import math
import os
import shutil
import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from genmodel.data.block import HEADER, shard_header, shard_name
from genmodel.data.imaging import transparency
from genmodel.data.imaging.decode import decode, known
from genmodel.data.imaging.resize import resize_all
from genmodel.data.making.recipe import Recipe
from genmodel.data.sources.members import Member, Reject, Source
from genmodel.data.sources.stalls import reading
from genmodel.files import durable
from genmodel.sizes import Size

SLICE = 64  # members; small, so that all workers end together and need little memory
_BOOT = Path("/proc/sys/kernel/random/boot_id")

# An accepted member's (sha256, width, height, mode, format, repairs, pixels), or a rejected one's (sha256, reason).
# `pixels` is a digest of its pixels at the largest size: equal images have the same.
Outcome = tuple[str | int, ...]
Part = dict[str, Any]  # {"scratch": folder, "files": {name: its facts in block.json}, "outcomes": [...]}


def _scratch() -> str:
    """The boot ID, or something unique if there is none.

    What a killed process has written stays as long as the machine runs, synced or not. After a reboot it may be gone,
    so it must not be reused.
    """
    return _BOOT.read_text().strip() if _BOOT.exists() else uuid.uuid4().hex


@dataclass(frozen=True)
class Job:
    """What all slices have in common."""

    source: Source
    place: Path  # holds block/ and parts/
    sizes: Sequence[Size]  # none: the members are only read, for their sha256
    recipe: Recipe = field(default_factory=lambda: Recipe(channels=3))
    first_shard: int = 0  # the number of the first shard in the block
    scratch: str = field(default_factory=_scratch)  # marks the folders whose rows can be reused

    @property
    def channels(self) -> int:
        assert self.recipe.channels is not None
        return self.recipe.channels

    def shard_name(self, size: Size, shard: int) -> str:
        """The path inside the block of the job's n-th shard."""
        return shard_name(size, self.first_shard + shard)

    def folder(self, shard: int) -> Path:
        """Where the job's n-th shard is made."""
        return self.place / "parts" / f"{shard:05d}" / self.scratch


class Slice(NamedTuple):
    """Some members of the job, and their places in its canonical list: place // rows is the shard, the rest the row."""

    places: Sequence[int]
    members: Sequence[Member]


def make_slice(job: Job, rows: int, piece: Slice) -> list[Outcome]:
    """Decode, resize and write members of shards of `rows` members each; the outcome of each member, in order."""
    outcomes: list[Outcome] = []
    lines: dict[int, dict[int, Outcome]] = {}  # by shard and row
    with contextlib.ExitStack() as files:
        handles: dict[tuple[int, Size], tuple[Path, int]] = {}
        for place, member in zip(*piece, strict=True):
            shard, row = divmod(place, rows)
            outcome, images = _convert(job, member)
            for size, image in images.items():
                if (shard, size) not in handles:
                    path = job.folder(shard) / f"{size}.rows"
                    handles[shard, size] = path, _open(path, os.O_WRONLY)
                    files.callback(os.close, handles[shard, size][1])
                _write_at(*handles[shard, size], image, HEADER + row * image.nbytes)
            outcomes.append(outcome)
            lines.setdefault(shard, {})[row] = outcome
    for shard, line in lines.items():
        _append(job.folder(shard) / "outcomes", json.dumps([list(line), list(line.values())]))
    return outcomes


def _open(path: Path, how: int) -> int:
    with durable.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, how | os.O_CREAT, 0o666)


def _write_at(path: Path, handle: int, pixels: np.ndarray, offset: int) -> None:
    content = np.ascontiguousarray(pixels).data.cast("B")
    with durable.storage_errors(path):
        while content:
            written = os.pwrite(handle, content, offset)
            content, offset = content[written:], offset + written


def _append(path: Path, line: str) -> None:
    """Append a line, on a new line even if a killed process left part of one."""
    handle = _open(path, os.O_WRONLY | os.O_APPEND)
    with durable.storage_errors(path), os.fdopen(handle, "ab") as file:
        file.write(f"\n{line}\n".encode())


def _convert(job: Job, member: Member) -> tuple[Outcome, dict[Size, np.ndarray]]:
    digest = ""
    try:
        if member.refused:
            raise Reject(member.refused)
        with reading(f"{member.name} of {job.source.name}"):
            content = job.source.read(member)
        digest = durable.digest_bytes(content)
        if not job.sizes:
            raise Reject("only read")
        image, facts = decode(content, job.recipe, job.sizes)
        made = resize_all(image, job.sizes, facts.extent)
        if job.channels == 4:
            made = {size: transparency.straight(pixels, job.recipe.colour) for size, pixels in made.items()}
        made = {size: np.ascontiguousarray(pixels[..., : job.channels]) for size, pixels in made.items()}
        same = hashlib.sha256(made[max(job.sizes)].data).hexdigest()[:32]
        kinds = facts.mode, facts.format, facts.repairs
        return (digest, facts.width, facts.height, *kinds, same), made
    except Reject as reject:
        return (digest, str(reject)), {}


def is_resampled(job: Job, members: Sequence[Member]) -> bool:
    """Whether any of these members has a size other than those to be made, judging by the headers."""
    for member in members if job.sizes else ():
        with (
            contextlib.suppress(Exception),  # whatever is wrong with it is reported when it is made
            Image.open(io.BytesIO(job.source.read(member)), formats=known()) as image,
        ):
            if any(max(size.width / image.width, size.height / image.height) != 1 for size in job.sizes):
                return True
    return False


def is_accepted(outcome: Outcome) -> bool:
    """Whether a member has a row in the shard."""
    return len(outcome) > 2


def made_rows(job: Job, shard: int) -> dict[int, Outcome]:
    """What has been made of a shard and can be reused: the outcomes of its members by their rows."""
    path, made = job.folder(shard) / "outcomes", dict[int, Outcome]()
    for line in path.read_text().splitlines() if path.exists() else ():
        with contextlib.suppress(ValueError):  # a line that a kill has cut
            made.update(zip(*json.loads(line or "[[], []]"), strict=True))
    return made


def finish(job: Job, shard: int, count: int) -> Part:
    """Finish the files of a shard all of whose `count` members are made; only its scratch folder changes."""
    made = made_rows(job, shard)
    outcomes = [made[row] for row in range(count)]
    kept = [place for place, outcome in enumerate(outcomes) if is_accepted(outcome)]
    folder, files = job.folder(shard), {}
    for size in job.sizes:
        name = job.shard_name(size, shard)
        rows, whole = folder / f"{size}.rows", _whole(folder, name)
        with durable.storage_errors(whole):
            if len(kept) < count:
                _copy_rows(rows, whole, math.prod(size) * job.channels, kept)
            elif rows.exists():  # otherwise an earlier try has renamed it
                rows.replace(whole)
        files[name] = _ended(whole, shard_header(len(kept), size, job.channels), len(kept))
    for changed in (folder, folder.parent):
        durable.sync_folder(changed)
    return {"scratch": job.scratch, "files": files, "outcomes": outcomes}


def _ended(whole: Path, header: bytes, rows: int) -> dict[str, Any]:
    """Add the header to a shard's file that has all its rows, and sync it; returns its facts in block.json."""
    with durable.storage_errors(whole), whole.open("r+b") as handle:
        handle.write(header)
        handle.flush()
        os.fsync(handle.fileno())
    return {"sha256": durable.digest_file(whole), "rows": rows, "bytes": whole.stat().st_size}


def thin(job: Job, shard: int, dropped: Mapping[int, Outcome]) -> None:
    """Remove images from a finished shard; `dropped` maps their places among its members to their new outcomes."""
    part, own = read_part(job.place, shard), replace(job, scratch=f"thin-{job.scratch}")
    assert part is not None, f"shard {shard} is not finished"
    outcomes = [dropped.get(place, outcome) for place, outcome in enumerate(part["outcomes"])]
    rows = [place for place, outcome in enumerate(part["outcomes"]) if is_accepted(outcome)]
    kept = [row for row, place in enumerate(rows) if place not in dropped]
    folder, files = own.folder(shard), {}
    for size in job.sizes:
        name = job.shard_name(size, shard)
        whole = _whole(folder, name)
        with durable.storage_errors(whole):
            folder.mkdir(parents=True, exist_ok=True)
            _copy_rows(job.place / "block" / name, whole, math.prod(size) * job.channels, kept)
        files[name] = _ended(whole, shard_header(len(kept), size, job.channels), len(kept))
    for changed in (folder, folder.parent):
        durable.sync_folder(changed)
    install(job.place, shard, {"scratch": own.scratch, "files": files, "outcomes": outcomes})


def _whole(folder: Path, name: str) -> Path:
    return folder / name.replace("/", "-")


def _copy_rows(rows: Path, whole: Path, row: int, kept: Sequence[int]) -> None:
    """Write the rows at the places `kept`, `row` bytes each, one after the other; `rows` stays, to do it again."""
    with contextlib.ExitStack() as files:
        target = files.enter_context(whole.open("wb"))
        target.seek(HEADER)
        source = files.enter_context(rows.open("rb")) if kept else target  # a shard of rejects has no rows
        for place in kept:
            target.write(os.pread(source.fileno(), row, HEADER + place * row))


def install(place: Path, shard: int, part: Part) -> None:
    """Put a finished shard into the block."""
    durable.write_text(part_path(place, shard), json.dumps(part))
    _move(place, shard, part)


def _move(place: Path, shard: int, part: Part) -> None:
    """Move a shard's files into the block, unless they are there, and remove its working folder."""
    making = place / "parts" / f"{shard:05d}"
    if not making.exists():
        return
    with durable.storage_errors(making):
        for name in part["files"]:
            whole, target = _whole(making / part["scratch"], name), place / "block" / name
            if whole.exists():
                whole.replace(target)
                durable.sync_folder(target.parent)
        shutil.rmtree(making, ignore_errors=True)  # a worker that a kill left behind may still be writing there


def part_path(place: Path, shard: int) -> Path:
    """Where a shard's part lies."""
    return place / "parts" / f"{shard:05d}.json"


def read_part(place: Path, shard: int) -> Part | None:
    """A finished shard's part, the shard being in the block, or None if the shard is not finished."""
    try:
        part: Part = json.loads(part_path(place, shard).read_text())
        _move(place, shard, part)
        sizes = {name: (place / "block" / name).stat().st_size for name in part["files"]}
    except FileNotFoundError:
        return None
    return part if sizes == {name: facts["bytes"] for name, facts in part["files"].items()} else None


def make_shard(job: Job, rows: int, shard: int, members: Sequence[Member]) -> Part:
    """Make one whole shard in this process, ready to be installed by the process that the place belongs to.

    Its scratch folder is its own: others may make the same shard at the same time, or have been left behind by a kill.
    """
    own = replace(job, scratch=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}")
    order = sorted(range(len(members)), key=lambda row: members[row].locator)
    for start in range(0, len(order), SLICE):
        some = order[start : start + SLICE]
        make_slice(own, rows, Slice([shard * rows + row for row in some], [members[row] for row in some]))
    return finish(own, shard, len(members))
