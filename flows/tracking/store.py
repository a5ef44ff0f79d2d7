"""The connection to MLflow, a database or a server: made, fitted to a moved project, and its errors in one line."""

import importlib.metadata
import logging
import os
import re
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.running.imports import uncollected
from flows.settings import Settings
from flows.tracking.moved import bring_here
from genmodel.errors import TrackingError
from genmodel.files import durable
from genmodel.output.masking import masked
from genmodel.output.printable import printable

if TYPE_CHECKING:
    from mlflow import MlflowClient

FIX = "start it, or unset MLFLOW_TRACKING_URI, and run the same command again"
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}  # else the UI asks for it
_PATIENCE = 10.0  # seconds for a connection; a host that drops packets would take minutes
_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}
_DRIVERS = {"psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}  # module -> its package, where names differ


def load_client() -> None:
    """Import MLflow, which takes two seconds of CPU."""
    with uncollected():
        import mlflow.tracking  # noqa: F401


def connect(settings: Settings) -> "tuple[MlflowClient, str]":
    """The client and the id of the experiment, which is made where it is missing. The caller holds the lock."""
    from mlflow import MlflowClient

    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)  # else it logs each attempt
    if (database := database_file(settings)) is not None:
        make_database(database)
        assert settings.artifacts is not None
        bring_here(database, settings.artifacts, settings.experiment)
    else:
        _check_reachable(settings)
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    if (experiment := client.get_experiment_by_name(settings.experiment)) is None:
        location = settings.artifacts.as_uri() if settings.artifacts else None
        return client, client.create_experiment(settings.experiment, location, _EXPERIMENT_TAGS)
    if experiment.lifecycle_stage == "deleted":
        uri = masked(settings.tracking_uri)
        raise TrackingError(
            f"the experiment {settings.experiment} was deleted in MLflow at {uri}: restore it with "
            f"`MLFLOW_TRACKING_URI='{uri}' mlflow experiments restore -x {experiment.experiment_id}`, "
            "or set MLFLOW_EXPERIMENT_NAME to another name"
        )
    return client, experiment.experiment_id


def database_file(settings: Settings) -> Path | None:
    """The sqlite file of MLflow; None where it is a server, or a database of another kind."""
    uri = settings.tracking_uri
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _check_reachable(settings: Settings) -> None:
    """Fail at once where MLflow would retry for minutes: no driver, no such host, no answer."""
    from requests.utils import get_environ_proxies

    uri = settings.tracking_uri
    parts = urlsplit(uri)
    if not settings.served:
        from sqlalchemy.engine import make_url

        try:
            make_url(uri).get_dialect().import_dbapi()
        except ModuleNotFoundError as error:
            package = _DRIVERS.get(str(error.name), error.name)
            raise TrackingError(
                f"MLflow at {masked(uri)} needs a database driver that is not installed: `pip install {package}`"
            ) from error
    elif get_environ_proxies(uri):  # only the proxy can tell
        return
    port = parts.port or _PORTS.get(parts.scheme.partition("+")[0])
    if not parts.hostname or port is None:
        return
    try:
        socket.create_connection((parts.hostname, port), timeout=_PATIENCE).close()
    except OSError as error:
        what = "server" if settings.served else "database"
        raise TrackingError(f"cannot reach the tracking {what} at {masked(uri)}: {FIX}") from error
    if not settings.served:
        _log_in(uri)


def _log_in(uri: str) -> None:
    """Connect once, so that a wrong password is an error at once: MLflow would retry it."""
    from sqlalchemy import create_engine

    engine = create_engine(uri)
    try:
        engine.connect().close()
    finally:
        engine.dispose()


def make_database(path: Path) -> None:
    """Make MLflow's sqlite file, whole or not at all.

    MLflow would build it in place by some fifty migrations, at a second for ten of them on a disk, and if it is killed
    on the way, refuse the file from then on.
    """
    if path.exists() and path.stat().st_size:
        return
    artifacts = path.parent / "mlartifacts"
    if path.exists() and artifacts.is_dir() and any(artifacts.iterdir()):
        raise TrackingError(
            f"{path} is empty, though {artifacts} holds files of its runs: put a backup of it back; "
            "or remove the empty file, and the runs are made again from the models, without registry and champion"
        )
    from mlflow import MlflowClient

    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as scratch:
        draft = Path(scratch) / "mlflow.db"
        MlflowClient(f"sqlite:///{draft}").search_experiments()
        durable.write_bytes(path, draft.read_bytes())


def explain(error: Exception, settings: Settings) -> str:
    """What MLflow, SQLAlchemy or requests say, in one line that names the fix where it is known; no secret is in it."""
    import requests

    uri = masked(settings.tracking_uri)
    cause: Any = error.__cause__ or error.__context__ or error
    cut_off = requests.exceptions.ChunkedEncodingError  # it died in the middle of its answer
    if isinstance(cause, requests.ConnectionError | requests.Timeout | cut_off):
        return f"cannot reach the tracking server at {uri}: {FIX}"
    text = str(error)
    if found := re.search(r"found version (\w+)", text):
        return _of_other_schema(found[1], uri)
    place = database_file(settings) or uri
    if "not a database" in text or "malformed" in text or "no such table" in text:
        return (
            f"{place} is damaged: put a backup of it back; or move it away, and the runs are made again from the "
            "models, without registry and champion"
        )
    if "readonly database" in text or "unable to open database file" in text:
        return f"not allowed to write {place}: make it and its folder writable (chmod u+w)"
    if "database is locked" in text:
        return f"{place} is in use by another process: run the same command again"
    return f"MLflow at {uri} says: {printable(masked(text.splitlines()[0] if text else type(error).__name__))}"


def _of_other_schema(version: str, uri: str) -> str:
    import mlflow

    known = Path(mlflow.__file__).parent / "store" / "db_migrations" / "versions"
    if any(known.glob(f"{version}_*.py")):
        return f"MLflow at {uri} was made by an older MLflow: back it up, then run `mlflow db upgrade '{uri}'`"
    ours = importlib.metadata.version("mlflow")
    return (
        f"MLflow at {uri} has a schema ({version}) that MLflow {ours} does not know: it was made by a newer one, or is "
        "damaged; use that MLflow, or put a backup back"
    )
