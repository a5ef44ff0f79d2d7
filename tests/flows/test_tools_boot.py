"""The operations' tools start with the versions that requirements.lock names."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from tests.flows.outages import NO_JOBS

LOCK = Path(__file__).parents[2] / "requirements.lock"
HELD = ["prefect", "mlflow", "dvc", "torch", "torchvision", "fastapi", "sqlalchemy"]

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", HELD)
def test_what_is_installed_is_what_is_locked(name: str) -> None:
    locked = re.search(rf"(?m)^{name}(?:\[.*\])?==(\S+)", LOCK.read_text())
    assert locked is not None, f"{name} is not in requirements.lock"
    assert version(name).partition("+")[0] == locked[1].partition("+")[0]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answer(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as told:
        return str(told.read().decode())


@pytest.mark.usefixtures("prefect_server")
def test_prefect_s_server_answers() -> None:
    from prefect.settings import PREFECT_API_URL

    assert answer(f"{PREFECT_API_URL.value()}/health") == "true"
    assert version("prefect") in answer(f"{PREFECT_API_URL.value()}/admin/version")


def test_mlflow_s_server_answers(empty_database: Path, tmp_path: Path) -> None:
    database = tmp_path / "mlflow.db"
    database.write_bytes(empty_database.read_bytes())
    port = free_port()
    options = ["--backend-store-uri", f"sqlite:///{database}", "--host", "127.0.0.1", "--port", str(port)]
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", *options]
    own = {"cwd": tmp_path, "env": os.environ | NO_JOBS}
    with subprocess.Popen(command, **own, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as server:
        try:
            ends = time.monotonic() + 90
            while time.monotonic() < ends and server.poll() is None:
                with contextlib.suppress(OSError):
                    assert answer(f"http://127.0.0.1:{port}/version") == version("mlflow")
                    return
                time.sleep(0.3)
            server.terminate()
            raise AssertionError(server.communicate()[0].decode())
        finally:
            server.terminate()


def test_dvc_starts(empty_project, run_command: Callable[..., "subprocess.CompletedProcess[str]"]) -> None:
    done = run_command([sys.executable, "-m", "dvc", "status"], empty_project.root)
    assert done.returncode == 0, done.stderr
    done = run_command([sys.executable, "-m", "dvc", "--version"], empty_project.root)
    assert done.stdout.strip() == version("dvc")
