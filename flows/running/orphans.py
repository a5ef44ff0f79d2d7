"""Runs that stay "Running" in Prefect after a `kill -9`: closed at the next start, this project's only.

A run has two tags: its project on this machine, and its process. Of this project's runs those are closed whose process
is gone; a PID that was given to another process is recognised by the time at which that started.
"""

import hashlib
import os
import socket
from pathlib import Path
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import State, StateType
from prefect.states import Crashed

_OPEN = [StateType.RUNNING, StateType.PENDING, StateType.CANCELLING]
_PROCESS = "process:"


def project(root: Path) -> str:
    """The project's name where several share a server: its folder's, and a digest of the place and the machine."""
    place = hashlib.sha256(f"{socket.gethostname()}:{root}".encode()).hexdigest()[:8]
    return f"genmodel-{root.name}-{place}"


def marks(root: Path, pid: int | None = None) -> list[str]:
    """The tags of a run in process `pid`, this one if None."""
    pid = pid or os.getpid()
    return [project(root), f"{_PROCESS}{pid}:{_started(pid)}"]


def claim(run: UUID, root: Path) -> None:
    """Mark a run that a schedule has made, once it has a process."""
    with get_client(sync_client=True) as client:
        known = [tag for tag in client.read_flow_run(run).tags if not tag.startswith(_PROCESS)]
        client.update_flow_run(run, tags=sorted({*known, *marks(root)}))


def close(root: Path, unclaimed: bool = False) -> int:
    """Mark this project's runs Crashed whose process is gone; returns how many.

    `unclaimed`: also runs without a process, which a server leaves that is killed between a run's start and its claim;
    only for a caller that alone starts runs.
    """
    lost = FlowRunFilter.model_validate({"tags": {"all_": [project(root)]}, "state": {"type": {"any_": _OPEN}}})
    closed = 0
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=lost):
            process = next((tag.removeprefix(_PROCESS) for tag in run.tags if tag.startswith(_PROCESS)), None)
            if (process is None and not unclaimed) or (process is not None and _runs(process)):
                continue
            said: State[None] = Crashed(message="its process was killed; closed by the next start")
            tasks = {"flow_run_id": {"any_": [run.id]}, "state": {"type": {"any_": _OPEN}}}
            for task in client.read_task_runs(task_run_filter=TaskRunFilter.model_validate(tasks)):
                client.set_task_run_state(task.id, said, force=True)
            client.set_flow_run_state(run.id, said, force=True)
            closed += 1
    return closed


def _runs(process: str) -> bool:
    pid, _, started = process.partition(":")
    return pid.isdecimal() and _started(int(pid)) == started != ""


def _started(pid: int) -> str:
    """When the process began, in the clock ticks of /proc; "?" where there is no /proc, empty for none or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in ("Z", "X") else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        pass
    if Path("/proc/self/stat").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "?"
