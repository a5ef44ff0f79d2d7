"""Nothing outlives its starter by more than 10 s, whatever is killed: real flows and servers over a toy project.

One kill of each kind; GENMODEL_KILLS=40 makes it forty.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows import versioning

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("GENMODEL_KILLS", "1"))
SLOW = "import time; pathlib.Path('training.pid').write_text(str(os.getpid())); time.sleep({})"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for survivors in /proc"),
]


def read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def lives(pid: int) -> bool:
    return read(pid, "stat").rpartition(")")[2].split()[:1] not in ([], ["Z"], ["X"])


def parent(pid: int) -> int:
    return int(read(pid, "stat").rpartition(")")[2].split()[1])


def below(pid: int) -> dict[int, str]:
    """The command lines of a process's descendants, by their pids."""
    parents = {int(path.name): read(int(path.name), "stat") for path in Path("/proc").glob("[0-9]*")}
    found: dict[int, str] = {}
    ahead = [pid]
    while ahead:
        above = ahead.pop()
        for child, stat in parents.items():
            if stat and int(stat.rpartition(")")[2].split()[1]) == above:
                found[child] = read(child, "cmdline").replace("\0", " ")
                ahead.append(child)
    return found


def wait_for(condition: Callable[[], object], seconds: float) -> float:
    """The seconds that it took; AssertionError after `seconds`."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "waited in vain"
        time.sleep(0.1)
    return time.monotonic() - started


class Line:
    """`python -m flows.retrain`, as a person starts it, in a project whose training takes its time."""

    def __init__(self, toy: Any, seconds: float = 250) -> None:
        versioning.add(toy.root, {"source": "digits", "sizes": [16]})
        toy.write("trick-train-dcgan.py", SLOW.format(seconds))
        self.root = toy.root
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PREFECT_", "GENMODEL_"))}
        self.environ = {**kept, "PYTHONPATH": str(ROOT), "SHELL": "/bin/sh", "GENMODEL_CRON": "0 0 1 1 *"}
        self.processes: dict[int, str] = {}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        self.log = (self.root / "flow.log").open("a+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flows.retrain", *arguments],
            cwd=self.root, env=self.environ, stdout=self.log, stderr=self.log, text=True,
        )  # fmt: skip
        return self.process

    def told(self) -> str:
        return (self.root / "flow.log").read_text()

    def wait_for_training(self) -> None:
        pid = self.root / "training.pid"
        wait_for(lambda: (pid.exists() and pid.read_text()) or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.told()
        self.processes = {**below(self.process.pid), self.process.pid: "flow"}

    def start_by_schedule(self) -> None:
        """`--serve`, and a run of its deployment, as its pages start one."""
        self.start("--serve")
        wait_for(lambda: "being served" in self.told() or self.process.poll() is not None, 120)
        url = json.loads((self.root / ".prefect/server.json").read_text())["url"]
        name = next(word for word in self.told().replace("'", " ").split() if word.startswith("retrain/genmodel-"))
        code = f"from prefect.deployments import run_deployment; run_deployment({name!r}, timeout=0)"
        environ = {
            **self.environ,
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_API_AUTH_STRING": (self.root / ".prefect/auth").read_text().strip(),
        }
        subprocess.run([sys.executable, "-c", code], env=environ, check=True, cwd=self.root)
        self.wait_for_training()

    def find(self, *words: str) -> list[int]:
        found = [pid for pid, command in self.processes.items() if all(word in command for word in words)]
        assert found, (words, self.processes)
        return found

    def parts(self, name: str) -> list[int]:
        guards = [pid for pid in self.find("guard.py") if "repro" in self.processes[pid]]
        return {
            "flow": lambda: [self.process.pid],
            "serve": lambda: [self.process.pid],
            "run": lambda: self.find("multiprocessing.spawn"),  # the served run
            "guard": lambda: [
                pid for pid in guards if int(read(pid, "stat").rpartition(")")[2].split()[1]) not in guards
            ],
            "guards": lambda: self.find("guard.py"),
            "dvc": lambda: [pid for pid in self.find("repro") if "guard.py" not in self.processes[pid]],
            "server": lambda: [pid for pid in self.find("api_server") if "guard.py" not in self.processes[pid]],
        }[name]()

    def kill(self, *names: str) -> None:
        for pid in [pid for name in names for pid in self.parts(name)]:
            os.kill(pid, signal.SIGKILL)
        self.killed = time.monotonic()

    def survivors(self, *, flow_may_live: bool) -> dict[int, str]:
        """What is alive 10 s after the kill at the latest."""

        def left() -> dict[int, str]:
            own = set() if not flow_may_live else {self.process.pid, *self.find("api_server")}
            return {pid: command for pid, command in self.processes.items() if pid not in own and lives(pid)}

        while left() and time.monotonic() < self.killed + 10:
            time.sleep(0.1)
        return left()

    def end(self) -> None:
        for pid in self.processes or [self.process.pid]:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def line(toy: Any) -> Iterator[Line]:
    made = Line(toy)
    yield made
    made.end()


@pytest.mark.parametrize("time_of", range(KILLS))
@pytest.mark.parametrize(
    "killed", [("flow",), ("guard",), ("dvc",), ("flow", "guard"), ("guard", "dvc"), ("flow", "server")], ids="+".join
)
def test_nothing_outlives_a_kill(line: Line, killed: tuple[str, ...], time_of: int) -> None:
    line.start()
    line.wait_for_training()
    line.kill(*killed)
    left = line.survivors(flow_may_live="flow" not in killed)
    assert not left
    if "flow" not in killed:
        wait_for(lambda: line.process.poll() is not None, 60)
        assert line.process.returncode == 2, line.told()
        assert "Traceback" not in line.told()


@pytest.mark.parametrize("time_of", range(KILLS))
@pytest.mark.parametrize("killed", [("serve",), ("serve", "guard"), ("serve", "run")], ids="+".join)
def test_nothing_outlives_a_killed_schedule(line: Line, killed: tuple[str, ...], time_of: int) -> None:
    line.start_by_schedule()
    line.kill(*killed)
    assert not line.survivors(flow_may_live=False)


@pytest.mark.parametrize("time_of", range(KILLS))
def test_a_flow_whose_server_is_killed_ends_soon_after_its_last_stage(toy: Any, time_of: int) -> None:
    line = Line(toy, seconds=5)
    line.start()
    try:
        line.wait_for_training()
        line.kill("server")
        training = int((line.root / "training.pid").read_text())
        wait_for(lambda: not lives(training), 60)
        wait_for(lambda: line.process.poll() is not None, 30)
        assert line.process.returncode == 2, line.told()
        assert line.told().splitlines()[-1].startswith("error: "), line.told()
        assert "Traceback" not in line.told()
    finally:
        line.end()


@pytest.mark.parametrize("time_of", range(KILLS))
def test_a_schedule_whose_server_is_killed_ends_with_all_that_it_started(line: Line, time_of: int) -> None:
    line.start_by_schedule()
    line.kill("server")
    wait_for(lambda: line.process.poll() is not None, 30)
    assert line.process.returncode == 2, line.told()
    assert "has ended: start the schedule again" in line.told(), line.told()
    line.killed = time.monotonic()
    assert not line.survivors(flow_may_live=False)


def test_a_killed_run_is_closed_by_the_next_start_and_a_foreign_one_is_not(line: Line) -> None:
    line.start()
    line.wait_for_training()
    line.kill("flow")
    assert not line.survivors(flow_may_live=False)
    (line.root / "trick-train-dcgan.py").unlink()
    database = f"file:{line.root}/.prefect/prefect.db?mode=ro"
    query = "import sqlite3, sys; base = sqlite3.connect(sys.argv[1], uri=True)\n"
    query += "print(base.execute('select state_type from flow_run').fetchall())"
    ask = [sys.executable, "-c", query, database]
    assert "RUNNING" in subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert line.start().wait(120) == 0, line.told()
    states = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert "CRASHED" in states and "COMPLETED" in states and "RUNNING" not in states
