"""GPU slots: a limit on Prefect's server, by which as many stages train at the same time as this machine has GPUs.

A stage with the tag `gpu` in dvc.yaml takes a slot before it starts, and one GPU for itself; other stages run beside.
The limit belongs to this machine, gpu@HOST, so that a server may be shared. It is strict: without it no stage starts.
A lease that cannot be renewed ends no training: the server may then let another one in, which is the lesser evil.
"""

import contextlib
import os
import queue
import socket
import threading
from collections.abc import Callable, Iterator

import httpx
from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectNotFound

from flows.costs.energy import devices
from flows.running.server import OWN_SERVER
from flows.settings import Settings
from genmodel.errors import GenmodelError

TAG = "gpu"
_LEASE = 120.0  # seconds without a renewal after which a slot is free again: its flow was killed


class Slots:
    """The slots of this machine, for the stages of one flow. Without a GPU, and unless GENMODEL_GPU_SLOTS is set, as
    many stages of this flow run at a time as there are cores, and at least two."""

    def __init__(self, settings: Settings) -> None:
        found = devices()
        self._count = settings.gpu_slots or len(found)
        self._name = f"{TAG}@{socket.gethostname()}"
        self._free: queue.Queue[str] = queue.Queue()
        self._cores = _Cores(max(2, os.cpu_count() or 1))  # more at once only slow each other down
        for number in range(self._count if found else 0):
            self._free.put(found[number % len(found)])
        if self._count:
            _make(self._name, self._count)

    @contextlib.contextmanager
    def one(
        self, tags: tuple[str, ...], rank: int = 0, tell: Callable[[str], object] = lambda _: None
    ) -> Iterator[dict[str, str]]:
        """Hold a slot, if a stage with these `tags` needs one; yields the variables that give its process its GPU.

        Of the stages that wait for cores, the one with the lowest `rank` goes first; `tell` is told of the waiting.
        """
        if TAG not in tags:
            yield {}
            return
        if not self._count:
            with self._cores.one(rank, tell):
                yield {}
            return
        with self._held():
            device = None if self._free.empty() else self._free.get()
            try:
                yield {} if device is None else {"CUDA_VISIBLE_DEVICES": device}
            finally:
                if device is not None:
                    self._free.put(device)

    @contextlib.contextmanager
    def _held(self) -> Iterator[None]:
        lease = contextlib.ExitStack()
        try:
            lease.enter_context(
                concurrency(self._name, lease_duration=_LEASE, strict=True, raise_on_lease_renewal_failure=False)
            )
        except ConcurrencySlotAcquisitionError as error:
            why = str(error).partition("\n")[0]
            raise GenmodelError(f"no GPU slot {self._name} on Prefect's server ({why}): run again") from error
        try:
            yield
        finally:
            try:
                lease.close()
            except httpx.HTTPError as error:  # the stage has done its work; the slot is free when the lease ends
                get_run_logger().warning(f"the slot {self._name} is given back later: {error}")


class _Cores:
    """So many stages at a time; who waits is let in by rank, not by when it came."""

    def __init__(self, count: int) -> None:
        self._count = self._free = count
        self._waiting, self._changed = list[int](), threading.Condition()

    @contextlib.contextmanager
    def one(self, rank: int, tell: Callable[[str], object]) -> Iterator[None]:
        with self._changed:
            self._waiting.append(rank)
            if not self._free:
                tell(f"waits for a core: {self._count} stages run at a time")
            self._changed.wait_for(lambda: self._free and rank == min(self._waiting))
            self._waiting.remove(rank)
            self._add(-1)
        try:
            yield
        finally:
            with self._changed:
                self._add(1)

    def _add(self, count: int) -> None:
        self._free += count
        self._changed.notify_all()


def _make(name: str, count: int) -> None:
    """Make the limit, or set its size.

    On this project's own server, which nobody else uses, it frees what a killed flow has left occupied: the server kept
    the leases in memory. On a server of others a limit that exists keeps its size, which may be someone's choice,
    unless GENMODEL_GPU_SLOTS is set.
    """
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            client.upsert_global_concurrency_limit_by_name(name, count)
            return
        if os.environ.get(OWN_SERVER):
            update = GlobalConcurrencyLimitUpdate(limit=count, active_slots=0, active=True)
            client.update_global_concurrency_limit(name, update)
        elif os.environ.get("GENMODEL_GPU_SLOTS"):
            client.update_global_concurrency_limit(name, GlobalConcurrencyLimitUpdate(limit=count))
