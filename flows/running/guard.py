"""Commands that never outlive the process that started them.

    flow --pipe-- guard (a session of its own) -- command (a process group of its own): dvc, shell, python, workers

A signal to a flow does not reach its children, and a `dvc` that is killed leaves its own child running. So every
command runs under a guard: this file, started as a script, which imports nothing but the standard library. The guard
ends the command's whole group (SIGTERM, a grace, SIGKILL) when the flow is gone, when it is told to stop, or when the
deadline has passed.

The guard polls `getppid` to see whether its flow is alive. PR_SET_PDEATHSIG would be a moment faster, but it follows
the thread that started the guard, not the process, leaves a gap between fork and prctl, and exists on Linux only.
A guard can be killed, too: a twin, forked from it into a session of its own, ends the command's group in its place.
And a stage, a server or a served run watches the process that it belongs to (`follow`), in case both are killed.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

DEADLINE = 124  # exit status of a command that ran past its deadline, the same as coreutils' `timeout`
STOPPED = 128 + signal.SIGTERM  # exit status of a command that was told to stop
OWNER = "GENMODEL_GUARD"  # the variable that tells a command its guard's pid
_POLL = 0.2  # seconds between two checks of the parent and the clock


class Guard:
    """Runs commands, from any number of threads, that end at the latest with the `with` block.

    grace: seconds between SIGTERM and SIGKILL, time to write a last checkpoint.
    """

    def __init__(self, grace: float = 8.0) -> None:
        self.grace = grace
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[str]] = set()
        self._open = True

    def __enter__(self) -> "Guard":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            self._open = False
            running = list(self._running)
        for process in running:
            process.terminate()
        for process in running:
            process.wait()

    def run(
        self,
        command: Sequence[str],
        on_line: Callable[[str], object],
        *,
        deadline: float | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> int:
        """Run a command and hand each line of its output (stdout and stderr, in order) to `on_line` at once.

        deadline: seconds that the command may take. Returns the command's exit status, 128 + n where signal n ended
        it, DEADLINE, or STOPPED. Nothing of the command's process group is alive when this returns or raises.
        """
        process = self._start(command, deadline, cwd, env)
        if process is None:
            return STOPPED
        try:
            assert process.stdout is not None
            for line in process.stdout:
                on_line(line.rstrip("\n"))
            return _status(process.wait())
        finally:
            with process:  # closes the pipe and waits
                process.terminate()  # only where `on_line` raised: an ended process takes no signals
            with self._lock:
                self._running.discard(process)

    def _start(
        self, command: Sequence[str], deadline: float | None, cwd: Path | None, env: Mapping[str, str] | None
    ) -> subprocess.Popen[str] | None:
        orders = [str(os.getpid()), str(deadline or "inf"), str(self.grace)]
        with self._lock:
            if not self._open:
                return None
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, *orders, *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=cwd,
                env=env,
                start_new_session=True,  # Ctrl-C and `kill -9 -GROUP` end the flow; the guard ends the rest
            )
            self._running.add(process)
        return process


def _watch(parent: int, deadline: float, grace: float, command: Sequence[str]) -> int:
    """What the guard does: start the command, wait for its end or for a reason to end it."""
    told: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: told.append(number))
    ends = time.monotonic() + deadline
    try:
        child = subprocess.Popen(command, process_group=0, env={**os.environ, OWNER: str(os.getpid())})
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}", flush=True)
        return 127
    twin = _fork_twin(child.pid, grace)
    verdict: int | None = None
    while verdict is None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            verdict = _status(child.wait(_POLL))
        if told or os.getppid() != parent:
            verdict = STOPPED
        elif verdict is None and time.monotonic() > ends:
            verdict = DEADLINE
    _end_group(child.pid, grace, child.poll)
    os.kill(twin, signal.SIGKILL)
    return verdict


def _fork_twin(group: int, grace: float) -> int:
    """A process that ends the group when this one is gone; returns its pid."""
    guard = os.getpid()
    if twin := os.fork():
        return twin
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # they are meant for the guard
    with Path(os.devnull).open("r+b") as nothing:
        for handle in (1, 2):
            os.dup2(nothing.fileno(), handle)  # else the flow would wait for this process to close its output
    while os.getppid() == guard:
        time.sleep(_POLL)
    _end_group(group, grace, lambda: None)
    os._exit(0)


def follow(pid: int, number: int = signal.SIGTERM, grace: float = 5.0) -> None:
    """Send this process signal `number` when process `pid` is gone, and SIGKILL after `grace` seconds more."""

    def watch() -> None:
        while _lives(pid):
            time.sleep(_POLL)
        os.kill(os.getpid(), number)
        time.sleep(grace)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="follow").start()


def follow_guard() -> None:
    """Let a stage end, as by SIGTERM, when the guard that runs it is gone; nothing outside a guard."""
    if (pid := os.environ.get(OWNER, "")).isdecimal():
        follow(int(pid))


def _lives(pid: int) -> bool:
    """Whether the process runs. A zombie does not, though a signal still reaches it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        pass
    if Path("/proc/self/stat").exists():
        return False
    return _signals(os.kill, pid)


def _end_group(group: int, grace: float, reap: Callable[[], object]) -> None:
    """SIGTERM to all that is left of the group, SIGKILL to what ignores it for `grace` seconds."""
    for number, patience in ((signal.SIGTERM, grace), (signal.SIGKILL, 1.0)):
        ends = time.monotonic() + patience
        left = _signals(os.killpg, group, number)
        while left and time.monotonic() < ends:
            reap()  # a zombie would count as alive
            time.sleep(0.02)
            left = _signals(os.killpg, group)
        if not left:
            return


def _signals(send: Callable[[int, int], None], target: int, number: int = 0) -> bool:
    """Whether a process was left to take the signal; signal 0 only checks."""
    try:
        send(target, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _status(returncode: int) -> int:
    """A shell's exit status: 128 + n where signal n ended the process."""
    return returncode if returncode >= 0 else 128 - returncode


if __name__ == "__main__":
    sys.exit(_watch(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
