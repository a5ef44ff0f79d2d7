"""Nobody else gets into a project's Prefect server, and no other server is taken for it."""

import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.running import server
from flows.settings import Settings
from genmodel.errors import GenmodelError

NOBODY = 65534


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("umask", [0o000, 0o077], indirect=True)
def test_what_is_secret_is_its_owner_s_alone(umask: int, tmp_path: Path) -> None:
    home = tmp_path / ".prefect"
    known = server.secret(home)
    assert known == server.secret(home), "made once"
    assert len(known) > 40
    with server.serving(home):
        assert mode(home) == 0o700
        assert {mode(path) for path in home.iterdir()} == {0o600}


def test_a_secret_that_others_could_read_is_made_anew(tmp_path: Path) -> None:
    known = server.secret(tmp_path / "home")
    (tmp_path / "home/auth").chmod(0o644)
    (tmp_path / "home").chmod(0o755)
    assert server.secret(tmp_path / "home") != known
    assert mode(tmp_path / "home/auth") == 0o600
    assert mode(tmp_path / "home") == 0o700


def test_a_project_is_served_once(tmp_path: Path) -> None:
    with (
        server.serving(tmp_path),
        pytest.raises(GenmodelError, match=f"already served, by process {os.getpid()}: stop it"),
        server.serving(tmp_path),
    ):
        pass
    with server.serving(tmp_path):
        pass


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    return tmp_path


def settings(root: Path, **chosen: str) -> Settings:
    read = Settings.read(chosen, root)
    read.apply()
    return read


def ask(url: str, known: str | None = None, method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
    import base64

    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    if known:
        request.add_header("Authorization", "Basic " + base64.b64encode(known.encode()).decode())
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}
    except urllib.error.HTTPError as error:
        return error.code, {name.lower(): value for name, value in error.headers.items()}


@pytest.mark.slow
@pytest.mark.parametrize("ephemeral", [True, False])
def test_nobody_gets_in(project: Path, ephemeral: bool) -> None:
    with server.running(settings(project), ephemeral) as address:
        known = server.secret(project / ".prefect")
        api = f"{address}/api/admin/version"
        assert ask(api)[0] == 401
        assert ask(api, "genmodel:wrong")[0] == 401
        assert ask(api, known)[0] == 200
        foreign = {"Origin": "http://evil.example", "Access_Control_Request_Method": "POST"}
        assert "access-control-allow-origin" not in ask(api, known, **foreign)[1]
        code, headers = ask(f"{address}/api/flow_runs/", method="OPTIONS", **foreign)
        assert (code, headers.get("access-control-allow-origin")) == (400, None)
        assert ask(f"{address}/api/flow_runs/filter", known, "POST")[0] == 403, "without a CSRF token"
        lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
        assert not any(known.partition(":")[2].encode() in line for line in lines)
        assert {mode(path) for path in (project / ".prefect").glob("prefect.db*")} == {0o600}
        if not ephemeral:
            told = json.loads((project / ".prefect/server.json").read_text())
            assert told == {"pid": os.getpid(), "url": address}
            assert mode(project / ".prefect/server.json") == 0o600
            assert ask(address)[0] == 200, "its pages"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")
def test_another_user_reads_nothing(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    before = os.umask(0)
    try:
        server.secret(tmp_path / ".prefect")
    finally:
        os.umask(before)
    for path in (".prefect/auth", ".prefect"):
        told = subprocess.run(["ls", "-l", path], cwd=tmp_path, user=NOBODY, capture_output=True, text=True)
        read = subprocess.run(["cat", path], cwd=tmp_path, user=NOBODY, capture_output=True, text=True)
        assert read.returncode != 0 and "genmodel:" not in read.stdout + told.stdout
    assert "Permission denied" in read.stderr


@pytest.mark.slow
def test_a_port_that_is_taken_is_refused(project: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        chosen = settings(project, GENMODEL_PREFECT_PORT=str(port))
        with (
            pytest.raises(GenmodelError, match=f"GENMODEL_PREFECT_PORT={port}: port {port} .* is taken") as caught,
            server.running(chosen, False),
        ):
            pass
    assert "\n" not in str(caught.value)


def test_a_server_that_takes_too_long_is_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_START_UP", 0.0)
    with (
        pytest.raises(GenmodelError, match="does not start: no answer in 0 s: is the machine too busy"),
        server.running(settings(project), True),
    ):
        pass


@pytest.mark.fault("Prefect server or database away")
@pytest.mark.slow
@pytest.mark.parametrize(
    ("driver", "told"),
    [("asyncpg", "Prefect's server does not start: "), ("psycopg2cffi", "needs a driver that is not installed")],
)
def test_a_database_that_is_away_or_has_no_driver_is_one_line(driver: str, told: str, project: Path) -> None:
    chosen = settings(project)
    os.environ["PREFECT_API_DATABASE_CONNECTION_URL"] = f"postgresql+{driver}://me:w0rd@127.0.0.1:1/x"
    with pytest.raises(GenmodelError, match=told) as caught, server.running(chosen, True):
        pass
    assert "w0rd" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_wrong_host_is_told_within_15_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes the connection and says nothing, and a name server that does not answer."""
    from flows.running import launch

    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        began = time.monotonic()
        with pytest.raises(GenmodelError, match="no Prefect server answers at PREFECT_API_URL=http://127"):
            launch.check(f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        assert time.monotonic() - began < 15
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [asked.wait(40)][:0])
    began = time.monotonic()
    with pytest.raises(GenmodelError, match=r"no answer within 12 s\): start it, or unset PREFECT_API_URL"):
        launch.check("http://prefect.example:4200/api")
    assert time.monotonic() - began < 15
    asked.set()


@pytest.mark.fault("damaged Prefect database")
@pytest.mark.slow
@pytest.mark.parametrize("damage", ["cut", "empty", "flipped"])
def test_a_damaged_database_is_put_aside(project: Path, damage: str, capsys: pytest.CaptureFixture[str]) -> None:
    import sqlite3

    home = project / ".prefect"
    chosen = settings(project)
    server.secret(home)
    database = home / "prefect.db"
    with sqlite3.connect(database) as made:
        made.execute("create table history (x text)")
        made.executemany("insert into history values (?)", [("x" * 900,) for _ in range(200)])
    made.close()
    content = database.read_bytes()
    changed = {
        "cut": content[: len(content) // 2],
        "empty": b"",
        "flipped": content[:16] + b"\xff" * 84 + content[100:],
    }
    database.write_bytes(changed[damage])
    with server.running(chosen, True):
        pass
    moved = list(home.glob("prefect.db.damaged-*"))
    assert len(moved) == (damage != "empty")
    assert ("only the history of runs is lost" in capsys.readouterr().err) == (damage != "empty")


@pytest.mark.fault("Prefect server or database away")
@pytest.mark.slow
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api", "http://no.such.host.invalid:4200/api", "nonsense"])
@pytest.mark.parametrize("arguments", [[], ["--serve"]])
def test_a_server_that_is_down_is_one_line(project: Path, url: str, arguments: list[str]) -> None:
    (project / "params.yaml").write_text("models: {}\n")
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3]), "PREFECT_API_URL": url}
    command = [sys.executable, "-m", "flows.retrain", *arguments]
    began = time.monotonic()
    told = subprocess.run(command, cwd=project, env=environ, capture_output=True, text=True, timeout=60)
    assert time.monotonic() - began < 40, "15 s, on a machine that has nothing else to do"
    assert told.returncode == 2, told.stderr
    assert told.stderr.count("\n") == 1 and told.stderr.startswith("error: "), told.stderr
    assert "PREFECT_API_URL" in told.stderr
