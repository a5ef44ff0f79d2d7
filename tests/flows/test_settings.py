import os
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from flows.settings import Settings
from genmodel.errors import ConfigError


def test_defaults_lie_in_the_project(tmp_path: Path) -> None:
    settings = Settings.read({}, tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert settings.artifacts == tmp_path / "mlartifacts"
    assert (settings.experiment, settings.registered_name, settings.dvc_remote) == ("genmodel", "genmodel", None)
    assert settings.cron == "0 3 * * *"
    assert settings.environment["PREFECT_HOME"] == str(tmp_path / ".prefect")
    assert settings.environment["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"
    assert not settings.served
    assert list(tmp_path.iterdir()) == []


def test_the_users_own_values_are_honoured(tmp_path: Path) -> None:
    chosen = {
        "MLFLOW_TRACKING_URI": "http://tracker:5000/",
        "MLFLOW_EXPERIMENT_NAME": "birds",
        "GENMODEL_REGISTERED_NAME": "bird-painter",
        "GENMODEL_CRON": "*/5 * * * MON-FRI",
        "GENMODEL_STAGE_DEADLINE": "90",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "60",
        "PREFECT_HOME": "/somewhere",
    }
    settings = Settings.read(chosen, tmp_path)
    assert (settings.tracking_uri, settings.artifacts, settings.served) == ("http://tracker:5000", None, True)
    assert (settings.experiment, settings.registered_name) == ("birds", "bird-painter")
    assert (settings.cron, settings.stage_deadline) == ("*/5 * * * MON-FRI", 90)
    assert settings.environment["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "60"
    assert settings.environment["PREFECT_HOME"] == "/somewhere"
    assert "PREFECT_API_URL" not in settings.environment  # inherited as it is


def test_a_relative_database_lies_in_the_project_with_its_files_beside_it(tmp_path: Path) -> None:
    settings = Settings.read({"MLFLOW_TRACKING_URI": "sqlite:///store/a.db"}, tmp_path)
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/store/a.db"
    assert settings.artifacts == tmp_path / "store" / "mlartifacts"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_URI", "mlruns"),
        ("MLFLOW_TRACKING_URI", "file:///mlruns"),
        ("GENMODEL_REGISTERED_NAME", "a/b"),
        ("GENMODEL_CRON", "every night"),
        ("GENMODEL_CRON", "0 3 * *"),
        ("GENMODEL_CRON", "0 25 * * *"),
        ("GENMODEL_CRON", "60 3 * * *"),
        ("GENMODEL_CRON", "0 0 31 2 *"),
        ("GENMODEL_CRON", "0 3 * * * *"),
        ("GENMODEL_TIMEZONE", "Middle/Earth"),
        ("GENMODEL_TIMEZONE", "../../etc/passwd"),
        ("GENMODEL_TIMEZONE", "Europe"),
        ("GENMODEL_PREFECT_PORT", "0"),
        ("GENMODEL_PREFECT_PORT", "65536"),
        ("GENMODEL_PREFECT_PORT", "http"),
        ("GENMODEL_STAGE_DEADLINE", "soon"),
        ("GENMODEL_STAGE_DEADLINE", "-1"),
        ("GENMODEL_STAGE_DEADLINE", "nan"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_variable(name: str, value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=name) as caught:
        Settings.read({name: value}, tmp_path)
    assert "\n" not in str(caught.value)
    assert value in str(caught.value)


def test_the_time_zone_is_the_machine_s_unless_one_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert Settings.read({}, tmp_path).timezone == "Asia/Tokyo"
    assert Settings.read({"GENMODEL_TIMEZONE": "Europe/Berlin"}, tmp_path).timezone == "Europe/Berlin"
    monkeypatch.setenv("TZ", "no zone")
    assert ZoneInfo(Settings.read({}, tmp_path).timezone), "the next place that tells one"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, None),
        ({"NO_PROXY": "intern.example"}, None),
        ({"HTTP_PROXY": "http://proxy:3128"}, "127.0.0.1,localhost,::1"),
        ({"all_proxy": "socks5://proxy:1080"}, "127.0.0.1,localhost,::1"),
        (
            {"https_proxy": "http://proxy:3128", "NO_PROXY": "intern.example, localhost"},
            "intern.example,localhost,127.0.0.1,::1",
        ),
    ],
)
def test_a_proxy_is_not_asked_for_this_machine(environ: dict[str, str], expected: str | None, tmp_path: Path) -> None:
    environment = Settings.read(environ, tmp_path).environment
    assert environment.get("NO_PROXY") == environment.get("no_proxy") == expected


def test_a_proxy_gets_no_request_for_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The libraries' own reading of NO_PROXY: httpx asks Prefect's server with it, requests MLflow's."""
    import httpx
    import requests

    monkeypatch.setattr(os, "environ", os.environ.copy())
    os.environ["HTTP_PROXY"] = "http://127.0.0.1:9"
    Settings.read(os.environ, tmp_path).apply()
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for host in ("127.0.0.1", "localhost"):
            for get in (httpx.head, requests.head):
                assert get(f"http://{host}:{server.server_port}/", timeout=10).status_code == 200
        server.shutdown()


PROFILE = """
active = "work"
[profiles.work]
PREFECT_API_URL = "http://me:w0rd@prefect.example/api"
[profiles.alone]
PREFECT_LOGGING_LEVEL = "DEBUG"
"""


@pytest.mark.parametrize(
    ("profile", "chosen", "told"),
    [(PROFILE, None, True), (PROFILE, "alone", False), ("active = [", None, False), (None, None, False)],
)
def test_a_profile_s_server_that_is_not_used_is_told(
    profile: str | None, chosen: str | None, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from flows.running import launch

    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("PREFECT_PROFILE", raising=False)
    if chosen:
        monkeypatch.setenv("PREFECT_PROFILE", chosen)
    if profile:
        (tmp_path / ".prefect").mkdir()
        (tmp_path / ".prefect/profiles.toml").write_text(profile)
    launch._tell_neglect(Settings.read({}, tmp_path / "project"))
    said = capsys.readouterr().err
    assert said.count("\n") == int(told)
    assert "w0rd" not in said
    assert ("PREFECT_API_URL=http://me:***@prefect.example/api" in said) == told


@pytest.mark.parametrize(("umask", "open_to_others"), [(0o000, 0o055), (0o022, 0o055), (0o077, 0o000)])
def test_others_may_write_nothing_that_a_command_of_the_line_made(
    umask: int, open_to_others: int, tmp_path: Path
) -> None:
    own = ("MLFLOW_", "PREFECT_", "GENMODEL_")  # as a newcomer has them: none
    kept = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    environ = {**kept, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-m", "flows.registry", "verify", "1"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, umask=umask, capture_output=True, text=True)
    assert done.returncode == 2 and "genmodel has no version 1" in done.stderr, done.stderr
    made = list(tmp_path.rglob("*"))
    assert tmp_path / "mlflow.db" in made
    for path in made:
        assert path.stat().st_mode & 0o077 & ~open_to_others == 0, path


def test_apply_reaches_child_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    Settings.read({}, tmp_path).apply()
    code = "import os; print(os.environ['DVC_NO_ANALYTICS'], os.environ['MLFLOW_TRACKING_URI'])"
    told = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", f"sqlite:///{tmp_path}/mlflow.db"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("GENMODEL_IF_RUNNING", "stay"), ("GENMODEL_KEEP_RUNS", "0"), ("GENMODEL_GPU_SLOTS", "two")],
)
def test_how_the_machine_is_shared(tmp_path: Path, name: str, value: str) -> None:
    chosen = {"GENMODEL_IF_RUNNING": "leave", "GENMODEL_KEEP_RUNS": "7", "GENMODEL_GPU_SLOTS": "2"}
    found = Settings.read(chosen, tmp_path)
    assert (found.waits, found.keep_runs, found.gpu_slots) == (False, 7, 2)
    assert Settings.read({}, tmp_path).waits and Settings.read({}, tmp_path).keep_runs is None
    with pytest.raises(ConfigError, match=f"{name}={value} must be"):
        Settings.read({name: value}, tmp_path)
