"""A team's servers, for real: PostgreSQL, an S3 endpoint, Prefect and MLflow, with the settings of docs/team/."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from dotenv import dotenv_values

TEAM = Path(__file__).parents[2] / "docs" / "team"
AUTH = "team:a-secret-of-the-team"  # Prefect's, one for all
PASSWORDS = {"ada": "a-password-of-hers", "bob": "a-password-of-his"}  # MLflow's
AWS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
ADMIN = "the-admins-password"


class Servers:
    """Started and stopped together, at the same addresses and with the same data each time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        names = ("postgres", "s3", "prefect", "mlflow")
        self.ports = dict(zip(names, _free_ports(len(names)), strict=True))
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir()
        self._make_database()

    def close(self) -> None:
        """Stop, and leave nothing of it outside its folder."""
        self.stop()
        self._end("s3")
        shutil.rmtree(self.database)

    def address(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}"

    def of_a_client(self, user: str) -> dict[str, str]:
        """The environment in which a member of the team works."""
        return AWS | {
            "PREFECT_API_URL": f"{self.address('prefect')}/api",
            "PREFECT_API_AUTH_STRING": AUTH,
            "MLFLOW_TRACKING_URI": self.address("mlflow"),
            "MLFLOW_TRACKING_USERNAME": user,
            "MLFLOW_TRACKING_PASSWORD": PASSWORDS[user],
        }

    def start(self) -> None:
        """All that do not run yet; returns when each answers."""
        self._start_postgres()
        if "s3" not in self._running:
            place = ["-H", "127.0.0.1", "-p", self._port("s3")]
            self._start("s3", [sys.executable, "-c", "from moto.server import main; main()", *place], {})
        self._start_prefect()
        self._start_mlflow()
        for name, path in (("s3", "/moto-api/"), ("prefect", "/api/health"), ("mlflow", "/health")):
            self._wait(name, path)

    def _start_prefect(self) -> None:
        chosen = {
            "PREFECT_API_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://{self._database('prefect')}",
            "PREFECT_SERVER_API_AUTH_STRING": AUTH,
            "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": self.address("prefect"),
        }
        place = ["--host", "127.0.0.1", "--port", self._port("prefect")]
        self._start("prefect", [sys.executable, "-m", "prefect", "server", "start", *place], chosen)

    def _start_mlflow(self) -> None:
        (self.folder / "basic_auth.ini").write_text(
            f"[mlflow]\ndefault_permission = MANAGE\nadmin_username = admin\nadmin_password = {ADMIN}\n"
            f"database_uri = postgresql://{self._database('mlflow_users')}\n"
        )
        chosen = AWS | {"MLFLOW_S3_ENDPOINT_URL": self.address("s3"), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-a-test"}
        chosen |= {"MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "basic_auth.ini")}
        place = ["--host", "127.0.0.1", "--port", self._port("mlflow")]
        kept = [
            "--backend-store-uri",
            f"postgresql://{self._database('mlflow')}",
            "--artifacts-destination",
            "s3://artifacts",
        ]
        let_in = ["--app-name", "basic-auth", "--allowed-hosts", f"127.0.0.1:{self._port('mlflow')}", "--workers", "1"]
        self._start("mlflow", [sys.executable, "-m", "mlflow", "server", *place, *kept, *let_in], chosen)

    def stop(self) -> None:
        """All but the S3 endpoint, which keeps its objects in memory."""
        for name in ("mlflow", "prefect"):
            self._end(name)
        if (self.database / "postmaster.pid").exists():
            self._as_postgres("pg_ctl", "--pgdata", str(self.database), "--mode", "fast", "stop")

    def _end(self, name: str) -> None:
        if process := self._running.pop(name, None):
            process.terminate()
            process.wait(60)

    def _make_database(self) -> None:
        """Not under pytest's folder, which root alone may enter: PostgreSQL refuses to run as root."""
        self.database = Path(tempfile.mkdtemp(prefix="genmodel-postgres-"))
        if os.geteuid() == 0:
            shutil.chown(self.database, "postgres", "postgres")
        data = ["--pgdata", str(self.database)]
        self._as_postgres("initdb", *data, "--username", "genmodel", "--auth", "trust", "--no-sync")

    def _start_postgres(self) -> None:
        options = (
            f"-p {self._port('postgres')} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
        )
        data, log = str(self.database), str(self.database / "log")
        self._as_postgres("pg_ctl", "--pgdata", data, "--log", log, "--options", options, "--wait", "start")
        import psycopg2

        with contextlib.closing(psycopg2.connect(f"postgresql://{self._database('postgres')}")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                for name in ("prefect", "mlflow", "mlflow_users"):
                    cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
                    if not cursor.fetchone():
                        cursor.execute(f"CREATE DATABASE {name}")

    def _database(self, name: str) -> str:
        return f"genmodel@127.0.0.1:{self.ports['postgres']}/{name}"

    def _as_postgres(self, *command: str) -> None:
        who = ["runuser", "--user", "postgres", "--"] if os.geteuid() == 0 else []
        done = subprocess.run([*who, *command], cwd="/", capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def _start(self, name: str, command: list[str], settings: dict[str, str]) -> None:
        known = {key: value or "" for key, value in dotenv_values(TEAM / "servers.env").items()}
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
        home = {
            "PREFECT_HOME": str(self.folder / "prefect"),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}",
        }
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=self.folder, env=clean | known | home | settings, stdout=log, stderr=subprocess.STDOUT
            )
        self._running[name] = process

    def _wait(self, name: str, path: str) -> None:
        deadline = time.monotonic() + 120
        while True:
            try:
                urllib.request.urlopen(self.address(name) + path, timeout=5).close()
                return
            except urllib.error.HTTPError:
                return  # it answers
            except OSError:
                told = (self.folder / f"{name}.log").read_text()[-2000:]
                assert time.monotonic() < deadline and all(p.poll() is None for p in self._running.values()), told
                time.sleep(0.2)

    def _port(self, name: str) -> str:
        return str(self.ports[name])


def _free_ports(count: int) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in held:
            each.bind(("127.0.0.1", 0))
        yield from [each.getsockname()[1] for each in held]
