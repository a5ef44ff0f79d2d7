"""Worker processes that turn slices into sealed shards."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from os import getpid
from typing import Any

from genmodel.data.members import Member
from genmodel.data.shards import Job, Outcome, Slice, seal, start_worker, work
from genmodel.errors import StorageError

SLICE = 64  # members; small, so that all workers end together and need little memory
_AHEAD = 2  # tasks a worker has waiting: a shard is sealed soon after its last slice


def make_shards(
    job: Job, members: Sequence[Member], rows: int, shards: Sequence[int], workers: int
) -> Iterator[tuple[Slice, list[Outcome]]]:
    """Make the given shards of `rows` members each; yields every slice with its members' outcomes when it is written.

    An error in a worker is raised here; StorageError if a worker was killed from outside.
    """
    waiting = _slices(members, rows, shards)
    written: dict[int, dict[int, list[Outcome]]] = {}  # shard -> start -> outcomes
    pending: dict[Future[Any], Slice | None] = {}  # None: a sealing
    unsealed: set[int] = set()  # what a kill would undo
    most = 1 - (-_AHEAD * workers * SLICE // rows)  # one that waits for its seal, and those that all are busy with
    pool = _start(job, workers)
    try:
        piece = next(waiting, None)
        while piece or pending:
            while piece and len(pending) < _AHEAD * workers and len(unsealed | {piece.shard}) <= most:
                unsealed.add(piece.shard)
                pending[pool.submit(work, piece)] = piece
                piece = next(waiting, None)
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                done, result = pending.pop(future), future.result()
                if done is None:
                    unsealed.discard(result)
                    continue
                shard = written.setdefault(done.shard, {})
                shard[done.start] = result
                if sum(map(len, shard.values())) == len(members[done.shard * rows : (done.shard + 1) * rows]):
                    whole = [outcome for start in sorted(shard) for outcome in shard[start]]
                    pending[pool.submit(seal, done.shard, whole)] = None
                    del written[done.shard]
                yield done, result
    except BrokenProcessPool as error:
        mend = "run the same command again, with fewer --workers if memory was short"
        raise StorageError(f"a worker that prepared images was killed: {mend}") from error
    finally:
        pool.shutdown(cancel_futures=True)


def _slices(members: Sequence[Member], rows: int, shards: Sequence[int]) -> Iterator[Slice]:
    for shard in shards:
        end = min((shard + 1) * rows, len(members))
        for first in range(shard * rows, end, SLICE):
            yield Slice(shard, first - shard * rows, list(members[first : min(first + SLICE, end)]))


def _start(job: Job, workers: int) -> ProcessPoolExecutor:
    # Forked workers share what the scan learned; elsewhere than on Linux forking is not safe.
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    return ProcessPoolExecutor(workers, context, initializer=start_worker, initargs=(job, getpid()))
