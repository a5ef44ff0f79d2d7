"""No process outlives its flow: every kill is asserted to have happened, every survivor looked for by its pid."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from flows.running.guard import DEADLINE, STOPPED, Guard

ROOT = Path(__file__).parents[3]
# a shell with a child in the background and a python in front; each writes its pid, the last makes "ready"
TREE = """sh -c 'sleep 100 & echo $! > {0}/a; {1} -c "
import os, pathlib, time{2}
pathlib.Path(\\"{0}/b\\").write_text(str(os.getpid()))
pathlib.Path(\\"{0}/ready\\").touch()
time.sleep(100)"; true'"""
STUBBORN = ", signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def tree(folder: Path, extra: str = "") -> list[str]:
    return ["sh", "-c", TREE.format(folder, sys.executable, extra)]


def wait_for(condition, seconds: float = 15.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.02)
    return bool(condition())


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that nobody has reaped yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pids(folder: Path) -> list[int]:
    found = [int((folder / name).read_text()) for name in ("a", "b")]
    assert len(set(found)) == 2
    return found


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for survivors in /proc")


def test_output_arrives_line_by_line_and_in_order() -> None:
    seen: list[tuple[str, float]] = []
    code = "import sys, time; print('one'); print('two', file=sys.stderr); time.sleep(1); print('three')"
    with Guard() as runner:
        status = runner.run([sys.executable, "-u", "-c", code], lambda line: seen.append((line, time.monotonic())))
    assert status == 0
    assert [line for line, _ in seen] == ["one", "two", "three"]
    assert seen[2][1] - seen[0][1] > 0.8, "the first line came only with the last"


def test_a_redrawn_progress_bar_is_lines() -> None:
    lines: list[str] = []
    with Guard() as runner:
        runner.run(["printf", "10%%\\r20%%\\rdone\\n"], lines.append)
    assert lines == ["10%", "20%", "done"]


@pytest.mark.parametrize(("command", "status"), [("exit 7", 7), ("kill -9 $$", 137), ("exit 255", 255)])
def test_the_exit_status_is_the_command_s(command: str, status: int) -> None:
    with Guard() as runner:
        assert runner.run(["sh", "-c", command], print) == status


def test_a_command_that_is_not_there() -> None:
    lines: list[str] = []
    with Guard() as runner:
        assert runner.run(["/no/such/command"], lines.append) == 127
    assert lines == ["cannot run /no/such/command: No such file or directory"]


def test_directory_and_environment(tmp_path: Path) -> None:
    lines: list[str] = []
    with Guard() as runner:
        runner.run(["sh", "-c", "pwd; echo $WORD"], lines.append, cwd=tmp_path, env={**os.environ, "WORD": "hello"})
    assert lines == [str(tmp_path), "hello"]


@needs_proc
@pytest.mark.parametrize("extra", ["", STUBBORN], ids=["obedient", "ignores SIGTERM"])
def test_the_deadline_ends_the_whole_tree(tmp_path: Path, extra: str) -> None:
    started = time.monotonic()
    with Guard(grace=0.5) as runner:
        assert runner.run(tree(tmp_path, extra), print, deadline=2) == DEADLINE
    assert 2 <= time.monotonic() - started < 10
    assert not any(map(alive, pids(tmp_path)))


@needs_proc
def test_what_a_finished_command_left_behind_is_ended(tmp_path: Path) -> None:
    started = time.monotonic()
    with Guard(grace=1) as runner:
        assert runner.run(["sh", "-c", f"sleep 100 & echo $! > {tmp_path}/a; exit 3"], print) == 3
    assert time.monotonic() - started < 10
    assert not alive(int((tmp_path / "a").read_text()))


@needs_proc
def test_leaving_the_block_ends_what_runs_in_threads(tmp_path: Path) -> None:
    statuses: list[int] = []
    with Guard(grace=1) as runner:
        thread = threading.Thread(target=lambda: statuses.append(runner.run(tree(tmp_path), print)))
        thread.start()
        assert wait_for((tmp_path / "ready").exists)
        assert all(map(alive, pids(tmp_path)))
    assert not any(map(alive, pids(tmp_path)))
    thread.join(5)
    assert statuses == [STOPPED]
    assert runner.run(["true"], print) == STOPPED, "a closed guard starts nothing"


@needs_proc
def test_a_listener_that_raises_ends_the_command(tmp_path: Path) -> None:
    def listen(line: str) -> None:
        raise ValueError(line)

    with Guard(grace=1) as runner, pytest.raises(ValueError, match="hello"):
        runner.run(["sh", "-c", f"echo $$ > {tmp_path}/a; echo hello; sleep 100"], listen)
    assert not alive(int((tmp_path / "a").read_text()))


FLOW = """
    import sys, threading, time
    from pathlib import Path
    from flows.running.guard import Guard

    def work():
        with Guard(grace=1) as runner:
            runner.run(sys.argv[1:], print)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
"""


def start_flow(tmp_path: Path) -> "subprocess.Popen[bytes]":
    """A process with a guarded tree, the guard started from a thread as Prefect's task runner does."""
    script = tmp_path / "flow.py"
    script.write_text(textwrap.dedent(FLOW))
    flow = subprocess.Popen(
        [sys.executable, str(script), *tree(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    assert wait_for((tmp_path / "ready").exists)
    assert all(map(alive, pids(tmp_path)))
    return flow


@pytest.mark.fault("signals to the guard of a stage")
@needs_proc
def test_killing_the_flow_leaves_no_grandchild(tmp_path: Path) -> None:
    flow = start_flow(tmp_path)
    flow.kill()
    assert flow.wait(5) == -signal.SIGKILL
    assert wait_for(lambda: not any(map(alive, pids(tmp_path))), seconds=5)


@pytest.mark.fault("signals to the guard of a stage")
@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_guard_ends_the_tree(tmp_path: Path, number: signal.Signals) -> None:
    flow = start_flow(tmp_path)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(flow.pid)], capture_output=True, text=True).stdout
    os.kill(int(children), number)
    assert flow.wait(10) == 0
    assert not any(map(alive, pids(tmp_path)))


def test_the_guard_is_cheap_to_start() -> None:
    """It runs isolated from the environment's packages: no import of ours is paid for a second time."""
    with Guard() as runner:
        runner.run(["true"], print)
        started = time.monotonic()
        runner.run(["true"], print)
    assert time.monotonic() - started < 2
