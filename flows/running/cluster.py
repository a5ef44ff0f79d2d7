"""Shards made on a Dask cluster, each by a task of the flow, on Prefect's Dask task runner.

All machines see the source and the project's folder under the same paths. A worker writes only into a scratch
folder of its own; the flow, the one process that holds the block's lock, puts what is finished into the block. So a
worker that a killed flow left behind, or that Dask gave up too early, can do no harm.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, cast

from distributed import CancelledError, Client, KilledWorker, wait
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.task_runners import TaskRunner
from prefect_dask.task_runners import DaskTaskRunner, PrefectDaskFuture

from flows.running.launch import one_line
from genmodel.data.imaging.decode import versions
from genmodel.data.imaging.kernels import compiled
from genmodel.data.making.pool import repays
from genmodel.data.making.shards import Job, Outcome, Part, Slice, install, make_shard
from genmodel.data.sources.members import Member
from genmodel.errors import ConfigError, SourceError, StorageError

LOCAL = "local"
_ADDRESS = re.compile(r"(?:tcp|tls)://(?P<host>[^/]+):\d+")
_HERE = "127.0.0.1", "localhost"
_PATIENCE = 5  # seconds that a scheduler may take to answer
_AHEAD = 2  # shards that wait for each thread of a worker


def check(address: str) -> None:
    """ConfigError unless `address` is "local", or that of a Dask scheduler with workers."""
    if address == LOCAL:
        return
    match = _ADDRESS.fullmatch(address)
    if not match:
        raise ConfigError(f"--dask {address}: write tcp://HOST:8786, the address of a Dask scheduler, or: local")
    if match["host"] not in _HERE and not os.environ.get("PREFECT_API_URL"):
        raise ConfigError(f"--dask {address}: set PREFECT_API_URL to a Prefect server that all its machines can reach")
    try:
        with Client(address, timeout=_PATIENCE, set_as_default=False) as client:
            workers = client.nthreads()
    except OSError as error:
        what = str(error).partition("\n")[0]
        raise ConfigError(f"--dask {address}: no Dask scheduler answers there ({what})") from error
    if not workers:
        raise ConfigError(
            f"--dask {address}: the scheduler has no workers: run `dask worker {address}` on the machines"
        )


def runner(address: str, workers: int) -> TaskRunner[Any]:
    """The task runner of the cluster at `address`, or of `workers` processes of this machine (0: one a core)."""
    if address != LOCAL:
        return DaskTaskRunner(address=address, client_kwargs={"timeout": _PATIENCE})
    one_each = {"n_workers": workers or os.cpu_count(), "threads_per_worker": 1, "dashboard_address": None}
    return DaskTaskRunner(cluster_kwargs=one_each)


class _Order:
    """A worker's task. Not a dataclass: Prefect and Dask would visit its members one by one."""

    def __init__(self, job: Job, rows: int, shard: int, members: Sequence[Member], loops: bool) -> None:
        self.job, self.rows, self.shard, self.members, self.decoders = job, rows, shard, members, versions()
        self.loops = loops  # whether the images are many enough for compiled ones


@task(name="shard", task_run_name="shard {order.shard}", cache_policy=NO_CACHE)
@one_line
def _make_one(order: _Order) -> Part:
    job, host = order.job, socket.gethostname()
    for path in (job.place / "parts", *job.source.files):
        if not path.exists():
            raise StorageError(
                f"the worker on {host} does not see {path}: the source and the project must lie on a file system "
                "that all machines share, under the same paths"
            )
    if versions() != order.decoders:
        raise ConfigError(
            f"the worker on {host} would make different pixels: it has {_text(versions())}, the flow "
            f"{_text(order.decoders)}; install requirements.lock on both"
        )
    if order.loops:
        compiled()
    try:
        return make_shard(job, order.rows, order.shard, order.members)
    except SourceError as error:
        raise SourceError(f"{error} (on {host})") from error


def _text(decoders: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in decoders.items())


def make_shards(
    job: Job, members: Sequence[Member], rows: int, shards: Sequence[int], workers: int
) -> Iterator[tuple[Slice, list[Outcome]]]:
    """Like genmodel.data.making.pool.make_shards, on the cluster of the current flow; yields whole shards.

    `workers` does not count, the threads of the cluster do.
    """
    context = FlowRunContext.get()
    assert context is not None and isinstance(context.task_runner, DaskTaskRunner)
    client, submit = context.task_runner.client, cast(Any, _make_one).submit
    loops = repays(job, len(members), members)
    waiting = iter(shards)
    pending: dict[Any, tuple[PrefectDaskFuture[Part], int, Sequence[Member]]] = {}
    try:
        while True:
            threads = sum(client.nthreads().values())
            for shard in islice(waiting, max(0, _AHEAD * max(1, threads) - len(pending))):
                some = members[shard * rows : (shard + 1) * rows]
                future = submit(_Order(job, rows, shard, some, loops))
                pending[future.wrapped_future] = future, shard, some
            if not pending:
                return
            with client.as_current():
                ready = wait(list(pending), return_when="FIRST_COMPLETED").done
            for ended in ready:
                future, shard, some = pending.pop(ended)
                part = future.result()
                if not (job.folder(shard).parent / part["scratch"]).exists():
                    raise StorageError(f"a worker made shard {shard} in another {job.place} than this machine's")
                install(job.place, shard, part)
                yield Slice(range(shard * rows, shard * rows + len(some)), some), part["outcomes"]
    except KilledWorker as error:
        fix = "run the same command again, with fewer workers a machine if memory ran out"
        raise StorageError(f"several workers died while making one shard: {fix}") from error
    except CancelledError as error:
        raise StorageError("the Dask cluster is gone: start it and run the same command again") from error
    finally:
        client.cancel(list(pending))
