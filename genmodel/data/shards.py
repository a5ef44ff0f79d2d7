"""A shard in the making, as a worker process sees it: slices of members decoded and written, then the shard sealed.

A slice's rows are written at their members' places, so that slices may come in any order and from any process. Sealing
closes the gaps of rejected members, writes the header, and leaves a part (the shard's digests and every member's
outcome) that says the shard is done. Both steps may be repeated: they give the same bytes.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genmodel import durable
from genmodel.data.block import HEADER, shard_header, shard_name
from genmodel.data.members import Member, Reject, Source
from genmodel.data.resize import decode, resize_all

# An accepted member's (sha256, width, height, mode, format, repairs), or a rejected one's (sha256, reason).
Outcome = tuple[str | int, ...]


@dataclass(frozen=True)
class Job:
    """What all slices have in common."""

    source: Source
    place: Path  # holds block/ and parts/
    sizes: Sequence[int]  # none: the members are only read, for their sha256
    first_shard: int = 0  # the number of the first shard in the block

    def shard_name(self, size: int, shard: int) -> str:
        """The path inside the block of the job's n-th shard."""
        return shard_name(size, self.first_shard + shard)


@dataclass(frozen=True)
class Slice:
    """Members start, start + 1, ... of a shard."""

    shard: int
    start: int
    members: list[Member]


_job: Job


def start_worker(job: Job, parent: int) -> None:
    """Make this process a worker on `job`, which ends when its parent does, and leaves ctrl-C to it."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def work(piece: Slice) -> list[Outcome]:
    """Decode, resize and write a slice; the outcome of each of its members, in order."""
    count = len(piece.members)
    outcomes: list[Outcome] = [()] * count
    pixels = {size: np.zeros((count, size, size, 3), np.uint8) for size in _job.sizes}
    for i in sorted(range(count), key=lambda i: piece.members[i].locator):  # in the archive's order
        outcomes[i], images = _convert(piece.members[i])
        for size, image in images.items():
            pixels[size][i] = image
    for size, rows in pixels.items():
        path = _job.place / "block" / _job.shard_name(size, piece.shard)
        with durable.storage_errors(path):
            path.touch()
            with path.open("r+b") as handle:
                handle.seek(HEADER + piece.start * rows[0].nbytes)
                handle.write(rows.data)
    return outcomes


def _convert(member: Member) -> tuple[Outcome, dict[int, np.ndarray]]:
    digest = ""
    try:
        if member.refused:
            raise Reject(member.refused)
        content = _job.source.read(member)
        digest = durable.digest_bytes(content)
        if not _job.sizes:
            raise Reject("only read")
        image, facts = decode(content)
        return (digest, *astuple(facts)), resize_all(image, _job.sizes)
    except Reject as reject:
        return (digest, str(reject)), {}


def is_accepted(outcome: Outcome) -> bool:
    """Whether a member has a row in the shard."""
    return len(outcome) > 2


def seal(shard: int, outcomes: list[Outcome]) -> int:
    """Finish the files of a shard all of whose slices are written, and leave its part; returns its number."""
    kept = [place for place, outcome in enumerate(outcomes) if is_accepted(outcome)]
    files = {}
    for size in _job.sizes:
        name = _job.shard_name(size, shard)
        path = _job.place / "block" / name
        with durable.storage_errors(path):
            _close_gaps(path, size, kept)
            durable.sync_folder(path.parent)
        files[name] = {"sha256": durable.digest_file(path), "rows": len(kept), "bytes": path.stat().st_size}
    durable.write_text(part_path(_job.place, shard), json.dumps({"files": files, "outcomes": outcomes}))
    return shard


def _close_gaps(path: Path, size: int, kept: Sequence[int]) -> None:
    row = size * size * 3
    with path.open("r+b") as handle:
        for target, place in enumerate(kept):
            if target != place:
                handle.seek(HEADER + place * row)
                content = handle.read(row)
                handle.seek(HEADER + target * row)
                handle.write(content)
        handle.truncate(HEADER + len(kept) * row)
        handle.seek(0)
        handle.write(shard_header(len(kept), size))
        handle.flush()
        os.fsync(handle.fileno())


def part_path(place: Path, shard: int) -> Path:
    """Where a shard's part lies."""
    return place / "parts" / f"{shard:05d}.json"


def read_part(place: Path, shard: int) -> dict[str, Any] | None:
    """A finished shard's {"files": ..., "outcomes": ...}, or None if the shard is not finished."""
    try:
        part: dict[str, Any] = json.loads(part_path(place, shard).read_text())
        sizes = {name: (place / "block" / name).stat().st_size for name in part["files"]}
    except FileNotFoundError:
        return None
    return part if sizes == {name: facts["bytes"] for name, facts in part["files"].items()} else None
