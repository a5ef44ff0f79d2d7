"""`make ui` as another user of the machine meets it, and as its owner does."""

import http.client
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.settings import Settings


@pytest.fixture
def ui(settings: Settings) -> Iterator[tuple[int, str]]:
    """The port and the one-time path of a running `python -m flows.ui`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "flows.ui", "--port", str(port)]
    with subprocess.Popen(command, cwd=settings.root, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        link = process.stdout.readline().split(": ", 1)[1]
        yield port, link.split(f":{port}")[1].split("#")[0]
        process.terminate()


def ask(port: int, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, b"{}" if method in ("POST", "PUT") else None, headers)
    return connection.getresponse()


def test_a_stranger_reads_and_writes_nothing_and_the_owner_reads_all(ui: tuple[int, str]) -> None:
    port, path = ui
    alias = "/api/2.0/mlflow/registered-models/alias"
    for method, place in (("GET", "/"), ("GET", "/health"), ("DELETE", alias), ("PUT", "/get-artifact")):
        assert ask(port, method, place).status == 401
    root, _, token = path.partition("/?")
    assert ask(port, "GET", f"{root}/?token=guessed").status == ask(port, "GET", f"/?{token}").status == 401
    opened = ask(port, "GET", path)
    assert opened.status == 200 and b"location.replace(" in opened.read()
    cookie = str(opened.headers["set-cookie"])
    assert f"HttpOnly; SameSite=Strict; Path={root}/" in cookie and len(root) > 16, "no other server is sent it"
    assert ask(port, "GET", path).status == 401, "once"
    mine = cookie.split(";")[0]
    page = ask(port, "GET", f"{root}/", Cookie=mine)
    assert page.status == 200 and b"MLflow" in page.read()
    found = ask(
        port, "GET", f"{root}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=genmodel", Cookie=mine
    )
    assert found.status == 200
    for place in ("/api/2.0/mlflow-artifacts/artifacts/0/served.py", "/ajax-api/2.0/mlflow/upload-artifact?path=a"):
        for method in ("PUT", "POST", "DELETE"):
            assert ask(port, method, root + place, Cookie=mine).status == 403
    for origin in ("http://evil", f"http://127.0.0.1:{port + 1}", "null"):  # one of this machine is another's, too
        assert ask(port, "POST", f"{root}/ajax-api/2.0/mlflow/runs/search", Cookie=mine, Origin=origin).status == 403
    own = f"http://127.0.0.1:{port}"
    assert ask(port, "POST", f"{root}/ajax-api/2.0/mlflow/runs/search", Cookie=mine, Origin=own).status != 403
    assert ask(port, "GET", f"{root}/", Cookie=mine, Host="evil.example").status == 403


def test_a_port_that_is_taken_is_one_line(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "flows.ui", "--port", port]
        done = subprocess.run(command, cwd=settings.root, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: cannot listen at 127.0.0.1:{port}")
    assert done.stderr.count("\n") == 1 and Path(settings.root / "mlflow.db").exists()
