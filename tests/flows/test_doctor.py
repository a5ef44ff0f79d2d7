"""`python -m flows.doctor` names each thing that is wrong, with its fix, and nothing on a machine where all is well."""

import dataclasses
import os
import shutil
import time
from pathlib import Path

import pytest

from flows import doctor
from flows.running import orphans
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.lease import Owner
from flows.tracking.trainings import Training
from flows.versioning import dvc as versioning
from tests.flows.toy_project import Toy


@pytest.fixture
def healthy(toy: Toy, empty_database: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    shutil.copy(empty_database, toy.root / "mlflow.db")
    toy.write("requirements.lock", 'pillow>=1\npytest==0\n# not a pin\nno-such-thing==1.0 ; sys_platform == "other"\n')
    toy.replace("requirements.lock", "pytest==0", f"pytest=={pytest.__version__}")
    versioning.add(toy.root, {"source": "digits", "sizes": [8]})
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    settings = Settings.read({}, toy.root)
    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)
    return settings


def wrong(settings: Settings) -> dict[str, str]:
    """What is told of each thing that is wrong, with its fix."""
    return {found.what: f"{found.told}: {found.fix}" for found in doctor.findings(settings) if found.fix}


def test_all_is_well(healthy: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(healthy.root)
    assert doctor.main([]) == 0
    told = capsys.readouterr().out.splitlines()
    assert len(told) >= 9 and all(line.startswith("OK ") for line in told)
    assert any("1 as in requirements.lock" in line for line in told)


def test_packages_that_are_not_those_of_the_lock(healthy: Settings) -> None:
    (healthy.root / "requirements.lock").write_text("pillow==1.0 \\\n    --hash=sha256:00\nno-such-thing==2.0\n")
    told = wrong(healthy)
    assert told.keys() == {"packages"}
    assert "pillow" in told["packages"] and "instead of 1.0; missing: no-such-thing" in told["packages"]
    assert "make setup" in told["packages"]


def test_a_remote_that_is_not_there(healthy: Settings, tmp_path: Path) -> None:
    toy = Toy(healthy.root)
    (tmp_path / "share").mkdir()
    toy.dvc("remote", "add", "-d", "share", str(tmp_path / "share"))
    toy.dvc("remote", "add", "gone", str(tmp_path / "gone"))
    told = wrong(healthy)
    assert told.keys() == {"data"} and "remote gone does not answer" in told["data"]


def test_a_project_without_data_or_without_dvc(healthy: Settings) -> None:
    (healthy.root / "data.dvc").unlink()
    assert "python -m flows.prepare" in wrong(healthy)["data"]
    shutil.rmtree(healthy.root / ".dvc")
    assert "dvc init" in wrong(healthy)["data"]


def test_runs_whose_process_is_gone(healthy: Settings, training: Training) -> None:
    tracker = Tracker(healthy)
    run = tracker.begin(training, 1000).run_id
    assert wrong(healthy) == {}
    dead = dataclasses.replace(Owner.here(), pid=2**22 - 1, start=1)
    with tracker.talking() as (client, _):
        for key, value in dead.tag().items():
            client.set_tag(run, key, value)
    assert "1 runs that say running have no process" in wrong(healthy)["MLflow"]
    tracker.close_abandoned()
    assert wrong(healthy) == {}


def test_a_secret_that_others_may_read(healthy: Settings) -> None:
    home = Path(healthy.environment["PREFECT_HOME"])
    home.mkdir(mode=0o700)
    (home / "auth").write_text("genmodel:secret")
    (home / "auth").chmod(0o644)
    assert wrong(healthy) == {"secrets": f"others may read {home / 'auth'}: chmod 600 {home / 'auth'}"}


def test_a_clock_that_is_behind(healthy: Settings) -> None:
    later = time.time() + 86_400
    os.utime(healthy.root / "data.dvc", (later, later))
    assert "data.dvc is from the future" in wrong(healthy)["clock"]


def test_a_full_disk(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_SPARE", 2**60)
    assert "free some" in wrong(healthy)["disk"]


def test_a_prefect_server_that_does_not_answer(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    assert "no Prefect server answers" in wrong(healthy)["Prefect"]


@pytest.mark.slow
@pytest.mark.usefixtures("prefect_server")
def test_a_paused_schedule(healthy: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL

    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    project = orphans.project(healthy.root)
    with get_client(sync_client=True) as client:
        flow = client.create_flow_from_name("retrain")
        made = client.create_deployment(flow_id=flow, name=project, tags=[project])
        assert wrong(healthy) == {}
        client.pause_deployment(made)
        assert f"the switch of retrain/{project}, in the UI" in wrong(healthy)["Prefect"]
        client.delete_deployment(made)
