"""Worker processes that turn slices into shards of the block."""

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Any

from genmodel.data.making.kernels import compiled
from genmodel.data.making.shards import SLICE, Job, Outcome, Slice, finish, install, made_slices, make_slice
from genmodel.data.sources.members import Member
from genmodel.errors import StorageError

_AHEAD = 2  # tasks a worker has waiting: a shard is finished soon after its last slice


def make_shards(
    job: Job, members: Sequence[Member], rows: int, shards: Sequence[int], workers: int
) -> Iterator[tuple[Slice, list[Outcome]]]:
    """Make the given shards of `rows` members each; yields every slice with its members' outcomes when it is made.

    What a kill undoes are the slices that workers have in hand: together no more than a shard's members, or a member a
    worker where there are more workers than rows. An error in a worker is raised here; StorageError if a worker was
    killed from outside.
    """
    waiting = _slices(job, members, rows, shards, max(1, min(SLICE, rows // workers)))
    made: dict[int, dict[int, list[Outcome]]] = {}  # shard -> start -> outcomes
    pending: dict[Future[Any], Slice | None] = {}  # None: a shard that is being finished
    pool = _start(job, workers)
    try:
        while True:
            for piece, outcomes in islice(waiting, max(0, _AHEAD * workers - len(pending))):
                pending[pool.submit(_work, piece) if outcomes is None else _ended(outcomes)] = piece
            if not pending:
                return
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                done, result = pending.pop(future), future.result()
                if done is None:
                    continue
                shard = made.setdefault(done.shard, {})
                shard[done.start] = result
                if sum(map(len, shard.values())) == len(members[done.shard * rows : (done.shard + 1) * rows]):
                    whole = [outcome for start in sorted(shard) for outcome in shard[start]]
                    pending[pool.submit(_seal, done.shard, whole)] = None
                    del made[done.shard]
                yield done, result
    except BrokenProcessPool as error:
        fix = "run the same command again, with fewer --workers if memory was short"
        raise StorageError(f"a worker that prepared images was killed: {fix}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _slices(
    job: Job, members: Sequence[Member], rows: int, shards: Sequence[int], most: int
) -> Iterator[tuple[Slice, list[Outcome] | None]]:
    """The shards' slices: those that an earlier run has made, with their outcomes, and the rest, cut anew."""
    for shard in shards:
        those, made, end = members[shard * rows : (shard + 1) * rows], made_slices(job, shard), 0
        for start in [*sorted(made), len(those)]:
            for first in range(end, start, most):
                yield Slice(shard, first, those[first : min(first + most, start)]), None
            if start in made:
                end = start + len(made[start])
                yield Slice(shard, start, those[start:end]), made[start]


def _ended(outcomes: list[Outcome]) -> Future[list[Outcome]]:
    future: Future[list[Outcome]] = Future()
    future.set_result(outcomes)
    return future


def _start(job: Job, workers: int) -> ProcessPoolExecutor:
    # Forked workers share what the scan learned, and the compiler's 120 MB, which are loaded before; elsewhere than on
    # Linux forking is not safe.
    compiled()
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=(job, os.getpid()))


_job: Job  # in a worker


def _start_worker(job: Job, parent: int) -> None:
    """Make this process a worker on `job`, which ends when its parent does, and leaves ctrl-C to it."""
    global _job
    _job = job
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _work(piece: Slice) -> list[Outcome]:
    return make_slice(_job, piece)


def _seal(shard: int, outcomes: list[Outcome]) -> None:
    install(_job.place, shard, finish(_job, shard, outcomes))
