import os
import subprocess
import sys
from pathlib import Path

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


def test_apply_reaches_child_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())
    Settings.read({}, tmp_path).apply()
    code = "import os; print(os.environ['DVC_NO_ANALYTICS'], os.environ['MLFLOW_TRACKING_URI'])"
    told = subprocess.run([sys.executable, "-c", code], env=os.environ, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1", f"sqlite:///{tmp_path}/mlflow.db"]
