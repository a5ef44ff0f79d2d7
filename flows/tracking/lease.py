"""Who follows a run: two tags, by which a record is sent by one process and the runs of dead ones are closed.

genmodel.owner names the process whose training it is, genmodel.lease the time (unix seconds, the owner's clock) of its
last sign of life. On the owner's machine the process itself is checked. From another machine only the lease is
visible: it holds while it was renewed recently, or is seen to change, so that a wrong clock ends no lease.
"""

import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

OWNER, LEASE = "genmodel.owner", "genmodel.lease"
_HELD = 300.0  # seconds without a sign of life after which an owner elsewhere counts as gone
_WATCHED = 40.0  # the same where its clock says that it is older: a living one renews it at least every 30 s
_LONG = 3600.0  # seconds after which a run is closed from another machine without watching


@dataclass(frozen=True)
class Owner:
    """One process among those of all machines and containers."""

    host: str
    boot: str  # of the machine, with the namespace that `pid` belongs to; empty where /proc does not tell
    pid: int
    start: int  # clock ticks after the boot: tells a reused PID apart
    since: str = field(compare=False)  # ISO 8601, UTC, whole seconds

    @classmethod
    def here(cls) -> "Owner":
        """This process."""
        since = datetime.now(UTC).isoformat(" ", "seconds")
        return cls(socket.gethostname(), _boot(), os.getpid(), _start(os.getpid()) or 0, since)

    @classmethod
    def read(cls, tags: Mapping[str, str]) -> "Owner | None":
        """Whom the tags of a run or a logged model name; None where they name nobody."""
        try:
            told = json.loads(tags.get(OWNER, ""))
            return cls(str(told["host"]), str(told["boot"]), int(told["pid"]), int(told["start"]), str(told["since"]))
        except (ValueError, RecursionError, KeyError, TypeError):
            return None

    def tag(self) -> dict[str, str]:
        return {OWNER: json.dumps(asdict(self))}

    def is_alive(self) -> bool | None:
        """Whether the process lives; None where this cannot be seen from here."""
        if not self.boot or self.boot != _boot():
            return None
        return _start(self.pid) == self.start


class Lease:
    """The right to send to runs, as `owner` has or takes it; what it has watched of others' leases."""

    def __init__(self, owner: Owner) -> None:
        self.owner = owner
        self._seen: dict[str, tuple[str, float]] = {}  # run id -> its lease, and our monotonic time when it was new

    def tags(self) -> dict[str, str]:
        return {**self.owner.tag(), LEASE: f"{time.time():.3f}"}

    def holder(self, run_id: str, tags: Mapping[str, str], watched: bool = True) -> Owner | None:
        """The other process that follows a run; None where it is free or ours.

        An owner on another machine is `watched` from call to call; else the clocks alone decide.
        """
        owner = Owner.read(tags)
        if owner is None or owner == self.owner:
            return None
        alive = owner.is_alive()
        if alive is None:
            lease = tags.get(LEASE, "")
            alive = self._is_renewed(run_id, lease) if watched else _age(lease) < _HELD
        return owner if alive else None

    def _is_renewed(self, run_id: str, lease: str) -> bool:
        now = time.monotonic()
        if self._seen.get(run_id, ("", 0))[0] != lease:
            self._seen[run_id] = lease, now
        return now - self._seen[run_id][1] < (_HELD if _age(lease) < _HELD else _WATCHED)


def is_abandoned(tags: Mapping[str, str]) -> bool:
    """Whether the tags name an owner who is gone: dead on this machine, or long without a sign of life elsewhere."""
    owner = Owner.read(tags)
    if owner is None:
        return False
    alive = owner.is_alive()
    return _age(tags.get(LEASE, "")) > _LONG if alive is None else not alive


def last_sign(tags: Mapping[str, str]) -> int:
    """When the owner last renewed its lease, unix milliseconds."""
    return round((time.time() - _age(tags.get(LEASE, ""))) * 1000)


def _age(lease: str) -> float:
    """Seconds by our clock; a lease that cannot be read counts as older than any."""
    try:
        return time.time() - float(lease)
    except ValueError:
        return time.time()


def _boot() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _start(pid: int) -> int | None:
    """None where no such process lives; one that has ended and was not waited for yet is dead."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return None
    return None if state in "ZX" else int(rest[18])
