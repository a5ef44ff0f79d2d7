"""A line that runs for a test to kill, and what of it still lives."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.versioning import dvc as versioning

ROOT = Path(__file__).parents[3]
SLOW = "import time; pathlib.Path('training.pid').write_text(str(os.getpid())); time.sleep({})"


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

    def wait_for_training(self, name: str = "training.pid") -> int:
        """The process that wrote its number into this file."""
        pid = self.root / name
        wait_for(lambda: (pid.exists() and pid.read_text()) or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.told()
        self.processes = {**below(self.process.pid), self.process.pid: "flow"}
        return int(pid.read_text())

    def serve(self) -> tuple[str, str]:
        """`--serve`; returns the deployment's name, and the server's address."""
        self.start("--serve")
        wait_for(lambda: "being served" in self.told() or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.told()
        told = self.root / ".prefect/server.json"
        url = json.loads(told.read_text())["url"] if told.exists() else ""
        return next(word for word in self.told().replace("'", " ").split() if word.startswith("retrain/")), url

    def start_by_schedule(self) -> None:
        """`--serve`, and a run of its deployment, as its pages start one."""
        name, url = self.serve()
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
        guards = [pid for pid in self.find("guard.py") if "repro" in self.processes[pid] and lives(pid)]
        return {
            "flow": lambda: [self.process.pid],
            "serve": lambda: [self.process.pid],
            "run": lambda: self.find("multiprocessing.spawn"),
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

    def ended_after(self, seconds: float) -> int | None:
        """The exit status; None where the process still runs `seconds` after the kill."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(self.killed + seconds - time.monotonic())
        print(f"{time.monotonic() - self.killed:.1f} s after the kill: exit status {self.process.returncode}")
        return self.process.returncode

    def end(self) -> None:
        for pid in self.processes or [self.process.pid]:
            if lives(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
