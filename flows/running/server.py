"""The project's own Prefect server: on a port and with a secret of its own, alive as long as the process that uses it.

`.prefect/` is for its owner only (0700). It holds the secret (auth, 0600) that server and clients read, the address of
the server that runs (server.json, 0600) and Prefect's database, which is history only. A server that this process has
not started is never used, whatever answers at an address: another project's, another user's, or an attacker's.
"""

import contextlib
import fcntl
import json
import os
import secrets
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from flows.running.guard import Guard
from flows.settings import Settings
from genmodel.errors import ConfigError, GenmodelError
from genmodel.files.durable import storage_errors
from genmodel.output.masking import masked
from genmodel.output.progress import say

OWN_SERVER = "GENMODEL_OWN_SERVER"  # set where PREFECT_API_URL is a server that this file has started
_START_UP = 300.0  # seconds that a server may take for it: 8 on a machine that is idle, 130 on one that is busy


def private_folder(home: Path) -> None:
    """Make the folder, or make it private: Prefect creates its database with the modes of the umask."""
    with storage_errors(home):
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if home.stat().st_mode & 0o077:
            home.chmod(0o700)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on, whatever the umask."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storage_errors(path):
        aside.unlink(missing_ok=True)
        handle = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            os.fchmod(file.fileno(), 0o600)  # a umask of 0777 would have left nothing
            file.write(text)
        aside.replace(path)


def secret(home: Path) -> str:
    """The `user:password` of this project's API; made once, and again where others could have read it."""
    private_folder(home)
    path = home / "auth"
    with (home / ".lock").open("a") as lock:
        os.fchmod(lock.fileno(), 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)  # two that start at the same time must have the same one
        try:
            status = path.stat()
            if status.st_uid == os.getuid() and not status.st_mode & 0o077 and (known := path.read_text().strip()):
                return known
        except FileNotFoundError:
            pass
        _write_private(path, f"genmodel:{secrets.token_urlsafe(32)}\n")
        return path.read_text().strip()


@contextlib.contextmanager
def serving(home: Path) -> Iterator[None]:
    """Be the one process that serves this project; GenmodelError, which names it, if another one does."""
    private_folder(home)
    with (home / "serve.lock").open("a+") as lock:
        os.fchmod(lock.fileno(), 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise GenmodelError(
                f"this project is already served, by process {lock.read().strip() or '?'}: stop it first"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


@contextlib.contextmanager
def running(settings: Settings, ephemeral: bool) -> Iterator[str]:
    """A server of this process's own, until the block ends; yields its address, `http://127.0.0.1:PORT`.

    `ephemeral`: for one flow, without scheduler and pages, on any free port. Sets what clients in this process need in
    os.environ. GenmodelError with the reason if it does not start.
    """
    home = Path(settings.environment["PREFECT_HOME"])
    os.environ |= _credentials(secret(home))
    _move_damaged(home / "prefect.db")
    wanted = [0] if ephemeral else [settings.prefect_port] if settings.prefect_port else [_last_port(home), 0]
    with Guard(grace=3) as guard:
        for port in wanted:
            started = _Start(guard, port, ephemeral)
            if started.wait() or port == 0 or settings.prefect_port:
                break
        if not started.port:
            raise GenmodelError(started.why())
        address = f"http://127.0.0.1:{started.port}"
        os.environ |= {"PREFECT_API_URL": f"{address}/api", OWN_SERVER: "1"}
        if not ephemeral:
            _write_private(home / "server.json", json.dumps({"pid": os.getpid(), "url": address}) + "\n")
        done = threading.Event()
        threading.Thread(target=_end_with, args=(started.thread, done), daemon=True, name="server's end").start()
        try:
            yield address
        finally:
            done.set()
            os.environ.pop(OWN_SERVER, None)


def _end_with(server: threading.Thread, done: threading.Event) -> None:
    """End this process if its server ends before it is `done`; the guards end its stages.

    Prefect's client would retry and log each call for minutes, and record nothing of what still runs.
    """
    server.join()
    if not done.is_set():
        say("error: Prefect's server of this process was killed: run the same command again to go on")
        os._exit(2)


class _Start:
    """A server that is being started, and what it has said."""

    def __init__(self, guard: Guard, port: int, ephemeral: bool) -> None:
        self.lines: list[str] = []
        self.port = 0
        self.asked = port
        command = [sys.executable, "-m", "flows.running.api_server", str(port), *(["--ephemeral"] if ephemeral else [])]
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *_python_path()])}
        self.thread = threading.Thread(
            target=guard.run, args=(command, self._hear), kwargs={"env": environ}, daemon=True
        )
        self.thread.start()

    def _hear(self, line: str) -> None:
        self.lines = [*self.lines[-50:], line]
        if line.startswith("port "):
            self.port = int(line.split()[1])

    def wait(self) -> bool:
        """Whether it answers; it has bound its port before it says which, so that nobody else answers there."""
        from urllib.request import ProxyHandler, build_opener

        direct = build_opener(ProxyHandler({}))
        ends = time.monotonic() + _START_UP
        while self.thread.is_alive() and time.monotonic() < ends:
            with contextlib.suppress(OSError):
                if self.port and direct.open(f"http://127.0.0.1:{self.port}/api/health", timeout=10).status == 200:
                    return True
            time.sleep(0.1)
        if self.thread.is_alive():
            self._hear(f"error: no answer in {_START_UP:g} s: is the machine too busy? Run the same command again")
        self.port = 0
        return False

    def why(self) -> str:
        told = next((line.removeprefix("error: ") for line in self.lines[::-1] if line.startswith("error: ")), "")
        if "is taken" in told:
            return f"GENMODEL_PREFECT_PORT={self.asked}: {told}: choose another, or leave it out for a free one"
        if told.startswith(("ModuleNotFoundError", "ImportError")):
            return f"PREFECT_API_DATABASE_CONNECTION_URL needs a driver that is not installed ({masked(told)})"
        return f"Prefect's server does not start: {masked(told or (self.lines or ['it gave no reason'])[-1])}"


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _credentials(known: str) -> dict[str, str]:
    """What server and clients need, in the environment only: everybody can read a command line."""
    return {
        "PREFECT_SERVER_API_AUTH_STRING": known,
        "PREFECT_API_AUTH_STRING": known,
        "PREFECT_SERVER_API_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLIENT_CSRF_SUPPORT_ENABLED": "true",
    }


def _last_port(home: Path) -> int:
    """The port of the last server, so that bookmarks stay valid; 0 if there is none."""
    try:
        return int(json.loads((home / "server.json").read_text())["url"].rpartition(":")[2])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0


def _move_damaged(database: Path) -> None:
    """Move a damaged database away, and say so: it holds the history of runs, and nothing that a run needs."""
    if os.environ.get("PREFECT_API_DATABASE_CONNECTION_URL") or not database.exists():
        return
    try:
        with contextlib.closing(sqlite3.connect(database, timeout=10)) as connection:
            (state,) = connection.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            return  # a server of this project is at work on it
        raise ConfigError(f"cannot read {database}: {error}") from error
    except sqlite3.DatabaseError as error:
        state = str(error)
    if state == "ok":
        return
    aside = database.with_name(f"{database.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    with storage_errors(aside):
        database.replace(aside)
        for ending in ("-wal", "-shm"):
            database.with_name(database.name + ending).unlink(missing_ok=True)
    print(f"Prefect's database was damaged and is now {aside}: only the history of runs is lost", file=sys.stderr)
