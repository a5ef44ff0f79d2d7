"""The environment, read once into one typed Settings; and the variables that every process of the line runs with."""

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from genmodel.errors import ConfigError

_SERVERS = ("http://", "https://")
_DATABASES = ("sqlite:///", "postgresql", "mysql", "mssql")
_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_CRON_FIELD = re.compile(r"[\d*/,\-A-Za-z#?]+")

# Defaults: a variable that the user has set keeps its value.
_QUIET_AND_SAFE = {
    "DO_NOT_TRACK": "true",  # without a network each attempt to report usage costs seconds
    "DASK_LOGGING__DISTRIBUTED": "warning",  # else each worker logs every step of its start and end
    "DVC_NO_ANALYTICS": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK": "true",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",  # it loses data silently when its server is killed
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",  # those older than 90 days, while it serves
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by default a call to a dead server takes 244 s to fail
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_CLIENT_MAX_RETRIES": "2",  # a call to a dead server takes 6 s; Prefect's own 5 take 62 s, several times
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where the line runs, and which services it uses."""

    root: Path  # of the project, absolute; in a DVC experiment, of its temporary copy
    tracking_uri: str  # MLFLOW_TRACKING_URI, or sqlite in the project
    artifacts: Path | None  # where MLflow's files go; None where a server decides
    experiment: str = "genmodel"  # MLFLOW_EXPERIMENT_NAME
    registered_name: str = "genmodel"  # GENMODEL_REGISTERED_NAME
    dvc_remote: str | None = None  # GENMODEL_DVC_REMOTE; None: DVC's own default remote
    cron: str = "0 3 * * *"  # GENMODEL_CRON
    timezone: str = "UTC"  # GENMODEL_TIMEZONE, of the schedule; default: the machine's
    watch: str = ""  # GENMODEL_WATCH, five fields as in `cron`: when `make serve` looks for new data; empty: never
    look: bool = True  # GENMODEL_LOOK=0: runs of a schedule do not look at the sources of data.dvc
    incoming: tuple[str, ...] = ()  # GENMODEL_INCOMING, folders whose archives are added to the data, as PATH has them
    quiet: float = 60  # GENMODEL_QUIET, seconds that nothing may have changed in a source before it is read
    notify: tuple[str, ...] = ()  # GENMODEL_NOTIFY, Apprise URLs that get a message of failures and decisions
    prefect_port: int | None = None  # GENMODEL_PREFECT_PORT, of a served project's server; None: a free one
    waits: bool = True  # GENMODEL_IF_RUNNING, wait or leave: what a retraining does while another one is at work
    keep_runs: int | None = None  # GENMODEL_KEEP_RUNS: after each run `flows.gc` keeps this many; None: it is not asked
    gpu_slots: int | None = None  # GENMODEL_GPU_SLOTS, trainings at the same time; None: as many as there are GPUs
    stage_deadline: float = 86_400  # GENMODEL_STAGE_DEADLINE, seconds a stage may take
    environment: Mapping[str, str] = field(default_factory=dict)  # what every process of the line runs with

    @classmethod
    def read(cls, environ: Mapping[str, str], root: Path) -> "Settings":
        """Read the environment `environ` of a project in `root`; ConfigError for a wrong value."""
        root = root.resolve()
        home = _home(root)
        tracking_uri = _tracking_uri(environ.get("MLFLOW_TRACKING_URI", ""), home)
        experiment = environ.get("MLFLOW_EXPERIMENT_NAME") or cls.experiment
        defaults = {**_QUIET_AND_SAFE, "PREFECT_HOME": str(home / ".prefect")}
        return cls(
            root=root,
            tracking_uri=tracking_uri,
            artifacts=_artifacts(tracking_uri, home),
            experiment=experiment,
            registered_name=_registered_name(environ.get("GENMODEL_REGISTERED_NAME") or cls.registered_name),
            dvc_remote=environ.get("GENMODEL_DVC_REMOTE") or None,
            cron=_cron("GENMODEL_CRON", environ.get("GENMODEL_CRON") or cls.cron),
            timezone=_timezone(environ.get("GENMODEL_TIMEZONE", "")),
            watch=_cron("GENMODEL_WATCH", environ["GENMODEL_WATCH"]) if environ.get("GENMODEL_WATCH") else "",
            look=_switch("GENMODEL_LOOK", environ, cls.look),
            incoming=tuple(filter(None, environ.get("GENMODEL_INCOMING", "").split(os.pathsep))),
            quiet=_seconds("GENMODEL_QUIET", environ, cls.quiet),
            notify=tuple(environ.get("GENMODEL_NOTIFY", "").split()),
            prefect_port=_whole("GENMODEL_PREFECT_PORT", environ, 65_535, "a port"),
            waits=_one_of("GENMODEL_IF_RUNNING", environ, "wait", "leave") == "wait",
            keep_runs=_whole("GENMODEL_KEEP_RUNS", environ, 10_000),
            gpu_slots=_whole("GENMODEL_GPU_SLOTS", environ, 10_000),
            stage_deadline=_seconds("GENMODEL_STAGE_DEADLINE", environ, cls.stage_deadline),
            environment={name: environ.get(name) or value for name, value in defaults.items()}
            | _direct(environ)
            | {"MLFLOW_TRACKING_URI": tracking_uri, "MLFLOW_EXPERIMENT_NAME": experiment},
        )

    @property
    def served(self) -> bool:
        """Whether MLflow is a server, and not a database that this process opens itself."""
        return self.tracking_uri.startswith(_SERVERS)

    def apply(self) -> None:
        """Give this process, and so its children, the environment of the line. Call before importing mlflow."""
        os.environ.update(self.environment)


def experiment(environ: Mapping[str, str] = os.environ) -> str | None:
    """The name of the experiment that this process is part of (`dvc exp run`), or the commit that it is based on.

    Experiments are trained, judged and compared; they never become versions or champions. None outside an experiment.
    """
    return environ.get("DVC_EXP_NAME") or environ.get("DVC_EXP_BASELINE_REV") or None


def _home(root: Path) -> Path:
    """The project that `root` is a copy of, else `root`: `dvc exp run --temp` and `--queue` work in a temporary copy
    under .dvc/tmp/exps, and use the project's own databases of MLflow and Prefect."""
    copies = (folder for folder in (root, *root.parents) if folder.parts[-4:-1] == (".dvc", "tmp", "exps"))
    return next((copy.parents[3] for copy in copies), root)


def _tracking_uri(uri: str, root: Path) -> str:
    if not uri:
        return f"sqlite:///{root / 'mlflow.db'}"
    if uri.startswith("sqlite:///"):
        return f"sqlite:///{root / uri.removeprefix('sqlite:///')}"
    if uri.startswith((*_SERVERS, *_DATABASES)):
        return uri.rstrip("/")
    raise ConfigError(
        f"MLFLOW_TRACKING_URI={uri} is neither a server nor a database: write http://HOST:PORT or sqlite:///PATH"
    )


def _artifacts(tracking_uri: str, root: Path) -> Path | None:
    if tracking_uri.startswith("sqlite:///"):
        return Path(tracking_uri.removeprefix("sqlite:///")).parent / "mlartifacts"
    return None if tracking_uri.startswith(_SERVERS) else root / "mlartifacts"


def _registered_name(name: str) -> str:
    if re.search(r"[/:'`\"]", name):  # MLflow's own rule, and what would break a search for it
        raise ConfigError(f"GENMODEL_REGISTERED_NAME={name}: a model's name holds no slash, colon or quote")
    return name


def _cron(name: str, text: str) -> str:
    from cronsim import CronSim, CronSimError

    fields = text.split()
    try:
        if len(fields) != 5 or not all(_CRON_FIELD.fullmatch(part) for part in fields):
            raise CronSimError("it has not five fields")
        next(CronSim(text, datetime(2024, 1, 1)))
    except (CronSimError, StopIteration) as error:
        raise ConfigError(
            f"{name}={text!r} is not a schedule ({error or 'it never matches'}): write five fields, as in '0 3 * * *'"
        ) from error
    return text


def _timezone(name: str) -> str:
    """The zone's name. Without one it is the machine's; UTC where that has no name."""
    if not name:
        return _machine_zone() or "UTC"
    try:
        ZoneInfo(name)
    except (ValueError, OSError, ZoneInfoNotFoundError) as error:
        raise ConfigError(f"GENMODEL_TIMEZONE={name} is not a time zone: write Europe/Berlin, say, or UTC") from error
    return name


def _machine_zone() -> str:
    """By TZ, /etc/timezone or where /etc/localtime points, in this order."""
    for find in (
        lambda: os.environ.get("TZ", "").removeprefix(":"),
        lambda: Path("/etc/timezone").read_text().strip(),
        lambda: os.path.realpath("/etc/localtime").partition("zoneinfo/")[2],
    ):
        with contextlib.suppress(ValueError, OSError, ZoneInfoNotFoundError):
            if name := find():
                return ZoneInfo(name).key
    return ""


def _one_of(name: str, environ: Mapping[str, str], *words: str) -> str:
    """The word that is set, by default the first one."""
    if (text := environ.get(name) or words[0]) not in words:
        raise ConfigError(f"{name}={text} must be {' or '.join(words)}")
    return text


def _whole(name: str, environ: Mapping[str, str], most: int, what: str = "a whole number") -> int | None:
    """A number from 1 to `most`; None where it is not set."""
    text = environ.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= most):
        raise ConfigError(f"{name}={text} must be {what}, 1 to {most}")
    return int(text)


def _switch(name: str, environ: Mapping[str, str], default: bool) -> bool:
    text = environ.get(name)
    if text not in (None, "", "0", "1"):
        raise ConfigError(f"{name}={text} must be 1 or 0")
    return default if not text else text == "1"


def _direct(environ: Mapping[str, str]) -> dict[str, str]:
    """If a proxy is set: connect to this machine directly, and keep the user's own exceptions."""
    lower = {name.lower(): value for name, value in sorted(environ.items()) if value}
    if not any(f"{kind}_proxy" in lower for kind in ("http", "https", "all")):
        return {}
    entries = [entry.strip() for entry in lower.get("no_proxy", "").split(",") if entry.strip()]
    value = ",".join([*entries, *(host for host in _THIS_MACHINE if host not in entries)])
    return {"NO_PROXY": value, "no_proxy": value}


def _seconds(name: str, environ: Mapping[str, str], default: float) -> float:
    text = environ.get(name) or str(default)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"{name}={text} must be a number of seconds above 0")
    return seconds
