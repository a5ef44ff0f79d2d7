"""`python -m flows.retrain` as a person starts it, and the flow as a server knows it."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows.settings import Settings
from flows.versioning import dvc as versioning

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


def wait_for(condition: Callable[[], object], seconds: float = 30.0) -> bool:
    ends = time.monotonic() + seconds
    while not condition() and time.monotonic() < ends:
        time.sleep(0.05)
    return bool(condition())


def start(toy, *arguments: str) -> "subprocess.Popen[str]":
    """`python -m flows.retrain` as a person starts it, against the tests' Prefect server."""
    from prefect.settings import PREFECT_API_URL

    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PREFECT_API_URL": PREFECT_API_URL.value()}
    return subprocess.Popen(
        [sys.executable, "-m", "flows.retrain", *arguments],
        cwd=toy.root,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_command_ends_with_leaderboard_pictures_decision_and_the_next_command(ready) -> None:
    flow = start(ready)
    told, _ = flow.communicate(timeout=120)
    assert flow.returncode == 0, told
    end = told[told.index("Leaderboard") :]
    assert end.index("vae") < end.index("dcgan"), "best first"
    assert "4.125" in end
    assert "models/vae/samples/0000000064.png" in end
    assert "0000000000.png" not in end
    assert "promote: There is no champion." in end
    assert "make ui" in end.splitlines()[-1]


def test_a_failing_run_sends_one_message(ready, received, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though two of its stages fail."""
    url, messages = received
    monkeypatch.setenv("GENMODEL_NOTIFY", url)
    for name in ("dcgan", "vae"):
        ready.write(f"trick-train-{name}.py", "raise SystemExit('no such thing')")
    flow = start(ready)
    told, _ = flow.communicate(timeout=120)
    assert flow.returncode != 0, told
    (message,) = messages
    assert message["title"] == "project: the retraining failed" and "train@vae failed" in message["message"]


WITHOUT = """
import sys
from pathlib import Path
from flows.retrain import main
code = main([])
heavy = {"prefect", "torch", "pandas", "mlflow", "sklearn"} & set(sys.modules)
print("imported:", sorted(heavy))
sys.exit(code)
"""


def test_by_hand_a_run_that_finds_nothing_changed_asks_dvc_alone(ready) -> None:
    environ = {**os.environ, "SHELL": "/bin/sh", "PYTHONPATH": str(ROOT)}
    environ.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-c", WITHOUT]

    def run() -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, cwd=ready.root, env=environ, capture_output=True, text=True, timeout=120)

    ready.dvc("repro", "--quiet")
    ready.ran()
    before = os.times()
    done = run()
    after = os.times()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing changed since the last run" in done.stdout
    assert done.stdout.index("Leaderboard") < done.stdout.index("promote: There is no champion.")
    assert "imported: []" in done.stdout
    assert not (ready.root / ".prefect").exists(), "no server was started"
    spent = after.children_user + after.children_system - before.children_user - before.children_system
    assert spent < 4, "seconds of the processor"
    assert ready.ran() == []


@pytest.mark.parametrize("change", ["params", "data", "output", "data.dvc"])
def test_whatever_changed_is_no_reason_to_say_that_nothing_did(ready, change: str) -> None:
    from flows.retrain import nothing_to_run

    ready.dvc("repro", "--quiet")
    settings = Settings.read({}, ready.root)
    assert nothing_to_run(settings) == [], "and the toy has no stage that always runs"
    if change == "params":
        ready.replace("params.yaml", "vae: {images: 2}", "vae: {images: 3}")
    elif change == "data":
        ready.write("data/more", "x")
    elif change == "output":
        (ready.root / "ranking.csv").unlink()
    else:
        (ready.root / "data.dvc").unlink()
    assert nothing_to_run(settings) is None


def test_a_stage_that_always_runs_is_no_change(ready) -> None:
    ready.replace(
        "dvc.yaml", "    cmd: python stages.py register", "    always_changed: true\n    cmd: python stages.py register"
    )
    ready.dvc("repro", "--quiet")
    assert versioning.changed(ready.root) == set()
    always = versioning.idle(ready.root)
    assert always is not None and [stage.name for stage in always] == ["register"]
    ready.replace("params.yaml", "margin: 0.1", "margin: 0.2")
    assert versioning.changed(ready.root) == {"register"}
    assert versioning.idle(ready.root) is None


def test_the_entrypoints_of_prefect_yaml_are_the_flows() -> None:
    from prefect.flows import load_flow_from_entrypoint

    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    entrypoints = {each["name"]: each["entrypoint"] for each in deployments}
    assert entrypoints == {"retrain": "flows/retrain.py:retrain", "watch": "flows/arrivals/watching.py:watch"}
    for each in deployments:
        path, name = each["entrypoint"].split(":")
        assert load_flow_from_entrypoint(f"{ROOT / path}:{name}").name == each["name"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_training_outlives_its_flow(ready, number: signal.Signals) -> None:
    for name in ("dcgan", "vae"):
        ready.write(
            f"trick-train-{name}.py",
            f"import time; pathlib.Path('{name}.pid').write_text(str(os.getpid())); time.sleep(250)",
        )
    flow = start(ready)
    pids = [ready.root / f"{name}.pid" for name in ("dcgan", "vae")]
    assert wait_for(lambda: all(path.exists() and path.read_text() for path in pids), 60), flow.communicate()
    trainings = [Path(f"/proc/{path.read_text()}") for path in pids]
    assert all(path.exists() for path in trainings), "side by side"
    flow.send_signal(number)
    told, _ = flow.communicate(timeout=120)  # on a busy machine Prefect's own end may take more than half a minute
    assert flow.returncode != 0
    if number == signal.SIGKILL:
        assert flow.returncode == -signal.SIGKILL
    assert wait_for(lambda: not any(path.exists() for path in trainings), 10), told


def test_a_schedule_makes_runs() -> None:
    """The server's scheduler, on the locked libraries: with SQLAlchemy 2.1 Prefect 3.8.8 schedules nothing."""
    from prefect.client.orchestration import get_client

    from flows.retrain import retrain

    deployment = retrain.to_deployment(name="nightly", cron="0 3 * * *")

    async def scheduled() -> int:
        identity = await deployment.aapply()
        async with get_client() as client:
            answer = await client._client.post(f"/deployments/{identity}/schedule", json={"max_runs": 3, "min_runs": 1})
            answer.raise_for_status()
            runs = await client.read_flow_runs()
            return len([run for run in runs if run.deployment_id == identity])

    assert asyncio.run(scheduled()) > 0


def test_whoever_starts_a_run_does_not_choose_its_folder() -> None:
    """As Prefect's engine reads the parameters of a run that a server hands it."""
    from prefect.exceptions import SignatureMismatchError
    from prefect.utilities.callables import parameters_to_args_kwargs

    from flows.running.line import retrain

    assert set(retrain.parameters.properties) == {"force", "renew_extractor", "look"}
    with pytest.raises(SignatureMismatchError, match="root"):
        parameters_to_args_kwargs(retrain.fn, {"root": "/tmp"})


def test_help_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    from flows.retrain import main

    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    told = capsys.readouterr().out
    assert all(word in told for word in ("--serve", "GENMODEL_CRON", "PREFECT_API_URL", "example"))
