"""Members dealt out to worker processes, which turn them into shards of the block.

A piece of them takes a quarter of a second. They come in canonical order; or, if a source unpacks much to read one of
them (a Parquet row group, a stretch of a gzip), in the source's order, with each such unit given to one worker, so that
it is unpacked once. Rows are written at their members' places, so that either way gives the same bytes.
"""

import time
from array import array
from collections.abc import Iterator, Sequence
from multiprocessing import connection

from genmodel.data.imaging.kernels import compiled
from genmodel.data.making.shards import (
    SLICE,
    Job,
    Outcome,
    Slice,
    finish,
    install,
    is_resampled,
    made_rows,
    make_slice,
)
from genmodel.data.making.workers import Worker
from genmodel.data.sources.members import Member

_BUSY = 0.25  # seconds that a piece is to take
_FEWEST, _MOST = 8, 2048  # members of a piece; the first pieces have the fewest
_LOOKED_AT = 8  # images, to see whether any are resampled
_REPAYS = 2000  # images for which compiling takes less time than it saves


def repays(job: Job, count: int, members: Sequence[Member]) -> bool:
    """Whether loops that are compiled to resample `count` images, these first, save more time than that takes."""
    return count >= _REPAYS and is_resampled(job, members[:_LOOKED_AT])


def make_shards(
    job: Job, members: Sequence[Member], rows: int, shards: Sequence[int], workers: int
) -> Iterator[tuple[Slice, list[Outcome]]]:
    """Make the given shards of `rows` members each; yields some members with their outcomes when they are made.

    A kill loses the slices that workers are making: together no more than a shard's members, or one member per worker
    if there are more workers than rows. An error in a worker is raised here; StorageError if a worker was
    killed from outside.
    """
    sizes = {shard: min(rows, len(members) - shard * rows) for shard in shards}
    todo, missing = array("q"), dict(sizes)  # places; how many per shard
    for shard, size in sizes.items():
        made = made_rows(job, shard)
        if made:
            places = [shard * rows + row for row in made]
            yield Slice(places, [members[place] for place in places]), list(made.values())
        missing[shard] -= len(made)
        todo.extend(shard * rows + row for row in range(size) if row not in made)
    whole = [shard for shard in shards if not missing[shard]]
    deal = _Deal(job, members, todo, workers)
    if repays(job, len(todo), deal.first(_LOOKED_AT)):
        compiled()  # before workers are forked, which share it: half a second, and 120 MB
    about = job, rows, max(1, min(SLICE, rows // workers))
    count = min(workers, max(len(whole), -(-len(todo) // _FEWEST)))
    crew = [Worker(about) for _ in range(count)]
    try:
        while True:
            for worker in crew:
                if worker.task is None and whole:
                    shard = whole.pop()
                    worker.ask(shard, _seal, shard, sizes[shard])
                elif worker.task is None and (piece := deal.piece(worker)):
                    worker.ask(piece, _work, piece)
            busy = {worker.pipe: worker for worker in crew if worker.task is not None}
            if not busy:
                return
            for pipe in connection.wait(list(busy)):
                task, result = busy[pipe].answer()  # type: ignore[index]
                if not isinstance(task, Slice):
                    continue
                outcomes, seconds = result
                deal.pace(len(outcomes) / seconds)
                for place in task.places:
                    shard = place // rows
                    missing[shard] -= 1
                    if not missing[shard]:
                        whole.append(shard)
                yield task, outcomes
    finally:
        for worker in crew:
            worker.end()


class _Deal:
    """What is still to be made, dealt out in pieces."""

    def __init__(self, job: Job, members: Sequence[Member], todo: "array[int]", workers: int) -> None:
        self._source, self._members, self._workers = job.source, members, workers
        self._todo, self._at, self._most = todo, 0, _FEWEST
        self._units: dict[Worker, array[int]] = {}  # what is left of the ones that workers are in
        if todo and self._unit(0) is not None:
            self._todo = array("q", sorted(todo, key=self._locator))

    def first(self, count: int) -> list[Member]:
        """The first members of all."""
        return [self._members[place] for place in self._todo[:count]]

    def pace(self, rate: float) -> None:
        """Note how many members per second a worker makes."""
        self._most = max(_FEWEST, min(_MOST, round(rate * _BUSY)))

    def piece(self, worker: Worker) -> Slice | None:
        """What a worker is to make next, in the order of the source; None if nothing is left."""
        left = self._units.pop(worker, None) or self._next()
        count = len(left) if 2 * len(left) <= 3 * self._most else self._most
        if left[count:]:
            self._units[worker] = left[count:]
        places = sorted(left[:count], key=self._locator)
        return Slice(places, [self._members[place] for place in places]) if places else None

    def _next(self) -> "array[int]":
        """The places of the next unit, or of some members if these are read one by one."""
        start = end = self._at
        if start < len(self._todo) and self._unit(start) is None:
            end += max(_FEWEST, min(self._most, (len(self._todo) - start) // (2 * self._workers)))  # all end together
        else:
            while end < len(self._todo) and self._unit(end) == self._unit(start):
                end += 1
        self._at = min(end, len(self._todo))
        return self._todo[start:end]

    def _unit(self, number: int) -> object:
        return self._source.unit(self._members[self._todo[number]])

    def _locator(self, place: int) -> tuple[int | str, ...]:
        return self._members[place].locator


def _work(about: tuple[Job, int, int], piece: Slice) -> tuple[list[Outcome], float]:
    """In a worker: the outcomes of a piece, and the seconds that it took; after a kill its slices are kept."""
    (job, rows, most), began, outcomes = about, time.monotonic(), []
    for start in range(0, len(piece.places), most):
        some = slice(start, start + most)
        outcomes += make_slice(job, rows, Slice(piece.places[some], piece.members[some]))
    return outcomes, time.monotonic() - began


def _seal(about: tuple[Job, int, int], shard: int, count: int) -> None:
    job, _, _ = about
    install(job.place, shard, finish(job, shard, count))
