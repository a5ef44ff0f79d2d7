"""A shard in the making: slices of members decoded and written, the shard finished from them, then put into the block.

A slice's rows are written at their members' places, so that slices may come in any order and from any process; its
outcomes are left in a file beside the rows. A finished shard has no gaps for rejected members, and its header. Putting
it into the block begins with its part, a file of digests and outcomes that says the shard is done. Each step can be
repeated after a kill, and gives the same bytes.

    parts/00012.json                            the part
    parts/00012/SCRATCH/                        where the shard is made, until it is in the block:
        256.rows                                a row a member, zeros for rejected ones
        00064.json                              the outcomes of the slice at member 64, whose rows are written
        256-shard-00012.npy                     the finished shard
"""

import json
import os
import shutil
import socket
import uuid
from collections.abc import Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from genmodel.data.block import HEADER, shard_header, shard_name
from genmodel.data.making.resize import decode, resize_all
from genmodel.data.sources.members import Member, Reject, Source
from genmodel.files import durable
from genmodel.sizes import Size

SLICE = 64  # members; small, so that all workers end together and need little memory
_BOOT = Path("/proc/sys/kernel/random/boot_id")

# An accepted member's (sha256, width, height, mode, format, repairs), or a rejected one's (sha256, reason).
Outcome = tuple[str | int, ...]
Part = dict[str, Any]  # {"scratch": folder, "files": {name: its facts in block.json}, "outcomes": [...]}


def _scratch() -> str:
    """The boot's id, or something unique where there is none.

    What a killed process has written is there as long as the machine runs, synced or not. After another boot it may be
    gone, so it must not be found.
    """
    return _BOOT.read_text().strip() if _BOOT.exists() else uuid.uuid4().hex


@dataclass(frozen=True)
class Job:
    """What all slices have in common."""

    source: Source
    place: Path  # holds block/ and parts/
    sizes: Sequence[Size]  # none: the members are only read, for their sha256
    first_shard: int = 0  # the number of the first shard in the block
    scratch: str = field(default_factory=_scratch)  # marks the folders whose rows may be built upon

    def shard_name(self, size: Size, shard: int) -> str:
        """The path inside the block of the job's n-th shard."""
        return shard_name(size, self.first_shard + shard)

    def folder(self, shard: int) -> Path:
        """Where the job's n-th shard is made."""
        return self.place / "parts" / f"{shard:05d}" / self.scratch


@dataclass(frozen=True)
class Slice:
    """Members start, start + 1, ... of a shard."""

    shard: int
    start: int
    members: Sequence[Member]


def make_slice(job: Job, piece: Slice) -> list[Outcome]:
    """Decode, resize and write a slice; the outcome of each of its members, in order."""
    count = len(piece.members)
    outcomes: list[Outcome] = [()] * count
    pixels = {size: np.zeros((count, *size, 3), np.uint8) for size in job.sizes}
    for i in sorted(range(count), key=lambda i: piece.members[i].locator):  # in the archive's order
        outcomes[i], images = _convert(job, piece.members[i])
        for size, image in images.items():
            pixels[size][i] = image
    folder = job.folder(piece.shard)
    with durable.storage_errors(folder):
        folder.parent.mkdir(exist_ok=True)
        folder.mkdir(exist_ok=True)
    for size, rows in pixels.items():
        path = folder / f"{size}.rows"
        with durable.storage_errors(path):
            path.touch()
            with path.open("r+b") as handle:
                handle.seek(HEADER + piece.start * rows[0].nbytes)
                handle.write(rows.data)
    durable.write_text(folder / f"{piece.start:05d}.json", json.dumps(outcomes), sync=False)
    return outcomes


def _convert(job: Job, member: Member) -> tuple[Outcome, dict[Size, np.ndarray]]:
    digest = ""
    try:
        if member.refused:
            raise Reject(member.refused)
        content = job.source.read(member)
        digest = durable.digest_bytes(content)
        if not job.sizes:
            raise Reject("only read")
        image, facts = decode(content)
        made = resize_all(image, [size.width for size in job.sizes])
        return (digest, *astuple(facts)), {Size.of(size): pixels for size, pixels in made.items()}
    except Reject as reject:
        return (digest, str(reject)), {}


def is_accepted(outcome: Outcome) -> bool:
    """Whether a member has a row in the shard."""
    return len(outcome) > 2


def made_slices(job: Job, shard: int) -> dict[int, list[Outcome]]:
    """What an earlier run has made of a shard and can be built upon: outcomes by the slices' first members."""
    return {int(path.stem): json.loads(path.read_text()) for path in job.folder(shard).glob("[0-9]*.json")}


def finish(job: Job, shard: int, outcomes: list[Outcome]) -> Part:
    """Finish the files of a shard all of whose slices are made; only its scratch folder changes."""
    kept = [place for place, outcome in enumerate(outcomes) if is_accepted(outcome)]
    folder, files = job.folder(shard), {}
    for size in job.sizes:
        name = job.shard_name(size, shard)
        rows, whole = folder / f"{size}.rows", _whole(folder, name)
        with durable.storage_errors(whole):
            if len(kept) < len(outcomes):
                _copy_rows(rows, whole, size, kept)
            elif rows.exists():  # or else an earlier try has renamed it
                rows.replace(whole)
            with whole.open("r+b") as handle:
                handle.write(shard_header(len(kept), size, 3))
                handle.flush()
                os.fsync(handle.fileno())
        files[name] = {"sha256": durable.digest_file(whole), "rows": len(kept), "bytes": whole.stat().st_size}
    for changed in (folder, folder.parent):
        durable.sync_folder(changed)
    return {"scratch": job.scratch, "files": files, "outcomes": outcomes}


def _whole(folder: Path, name: str) -> Path:
    return folder / name.replace("/", "-")


def _copy_rows(rows: Path, whole: Path, size: Size, kept: Sequence[int]) -> None:
    """Write the rows at the places `kept` one after the other; `rows` stays as it is, so that it can be done again."""
    row = size.height * size.width * 3
    with rows.open("rb") as source, whole.open("wb") as target:
        target.seek(HEADER)
        for place in kept:
            target.write(os.pread(source.fileno(), row, HEADER + place * row))


def install(place: Path, shard: int, part: Part) -> None:
    """Put a finished shard into the block."""
    durable.write_text(part_path(place, shard), json.dumps(part))
    _move(place, shard, part)


def _move(place: Path, shard: int, part: Part) -> None:
    """Move a shard's files into the block, unless they are there, and remove all that is left of its making."""
    making = place / "parts" / f"{shard:05d}"
    if not making.exists():
        return
    with durable.storage_errors(making):
        for name in part["files"]:
            whole, target = _whole(making / part["scratch"], name), place / "block" / name
            if whole.exists():
                whole.replace(target)
                durable.sync_folder(target.parent)
        shutil.rmtree(making, ignore_errors=True)  # a worker that a kill left behind may be writing there still


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


def make_shard(job: Job, shard: int, members: Sequence[Member]) -> Part:
    """Make one whole shard in this process, ready to be installed by the process that the place belongs to.

    Its scratch folder is its own: others may make the same shard at the same time, or have been left behind by a kill.
    """
    own = replace(job, scratch=f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex}")
    outcomes: list[Outcome] = []
    for start in range(0, len(members), SLICE):
        outcomes += make_slice(own, Slice(shard, start, members[start : start + SLICE]))
    return finish(own, shard, outcomes)
