"""The flow over DVC's graph, with real Prefect and real DVC on a toy project."""

import asyncio
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.versioning import dvc as versioning
from flows.versioning import repro
from flows.versioning.repo import LockConflictError

ROOT = Path(__file__).parents[2]
ALL = ["train@dcgan", "train@vae", "evaluate@dcgan", "evaluate@vae", "compare", "register"]

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


def task_runs(state: Any) -> dict[str, Any]:
    """The state of each of a flow's tasks, by name."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter

    async def read() -> list[Any]:
        async with get_client() as client:
            return await client.read_task_runs(
                flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [state.state_details.flow_run_id]}})
            )

    return {run.name: run for run in asyncio.run(read())}


def name_of(state: Any) -> str:
    """What the run of a flow is called in Prefect's pages."""
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return str(client.read_flow_run(state.state_details.flow_run_id).name)


def artifact(key: str) -> Any:
    """The latest artifact of a key."""
    from prefect.artifacts import Artifact

    return Artifact.get(key)


def test_the_flow_leaves_what_dvc_repro_leaves(ready, flow, caplog: pytest.LogCaptureFixture) -> None:
    state = flow(ready.root)
    assert state.is_completed(), state
    assert name_of(state) == "retrain: 2 models changed"
    runs = task_runs(state)
    stages = {name: run for name, run in runs.items() if name in ALL}
    assert set(stages) == set(ALL)
    assert all(run.state.is_completed() for run in runs.values())
    assert "gpu" in stages["train@vae"].tags
    assert "gpu" not in stages["compare"].tags
    assert "working on train vae" in caplog.text, "the stage's own lines are in the log"
    ran = ready.ran()
    assert set(ran) == set(ALL)
    assert ran[-2:] == ["compare", "register"]

    rows = json.loads(artifact("leaderboard").data)
    assert [(row["model"], row["fd_toy"], row["parameters"]) for row in rows] == [
        ("vae", 4.125, 1234),
        ("dcgan", 8.25, 1234),
    ]
    assert {row["seconds"] for row in rows} == {"n/a"}, "no record is kept here"
    lock = yaml.safe_load((ready.root / "dvc.lock").read_text())
    (ready.root / "dvc.lock").unlink()
    shutil.rmtree(ready.root / ".dvc/cache")
    ready.dvc("repro", "--quiet", "--force")
    assert yaml.safe_load((ready.root / "dvc.lock").read_text()) == lock
    ready.ran()

    caplog.clear()
    again = flow(ready.root)
    assert again.is_completed()
    assert "nothing changed since the last run" in caplog.text
    assert name_of(again) == "retrain: nothing changed"
    assert [name for name in task_runs(again) if name in ALL] == []
    assert ready.ran() == []

    ready.replace("params.yaml", "vae: {images: 2}", "vae: {images: 3}")
    changed = flow(ready.root)
    assert name_of(changed) == "retrain: 1 model changed"
    assert sorted(name for name in task_runs(changed) if name in ALL) == sorted(ALL[1:2] + ALL[3:])
    assert ready.ran() == ["train@vae", "evaluate@vae", "compare", "register"]


def test_a_failure_stops_what_depends_on_it_and_nothing_else(ready, flow, caplog: pytest.LogCaptureFixture) -> None:
    ready.write("trick-train-vae.py", "sys.exit('error: params.yaml: models.vae.images is too small')")
    state = flow(ready.root)
    assert state.is_failed()
    assert state.message == (
        "train@vae failed: params.yaml: models.vae.images is too small (so not run: evaluate@vae, compare, register)"
    )
    assert "Traceback" not in caplog.text
    runs = task_runs(state)
    assert runs["train@vae"].state.is_failed()
    assert runs["train@vae"].run_count == 1, "a failed training is not tried again"
    assert runs["evaluate@dcgan"].state.is_completed()
    assert {runs[name].state.name for name in ("evaluate@vae", "compare", "register")} == {"NotReady"}
    assert sorted(ready.ran()) == ["evaluate@dcgan", "train@dcgan", "train@vae"]


def test_a_lock_conflict_is_tried_again(ready, flow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another process holds models/vae when the flow looks what to do, and again when it is to be trained."""
    from flows.running import line

    lock = ready.root / ".dvc/tmp/rwlock"
    holders: list[subprocess.Popen[bytes]] = []

    def hold() -> None:
        holders.append(subprocess.Popen(["sleep", "600"]))
        lock.write_text(json.dumps({"write": {str(ready.root / "models/vae"): {"pid": holders[-1].pid, "cmd": "dvc"}}}))

    def release() -> None:
        """DVC takes a lock for free whose process is gone; the file itself is others' at the same time."""
        holders[-1].kill()
        holders[-1].wait()

    def changed(root: Path) -> set[str]:
        try:
            found = look(root)
        except LockConflictError:
            release()
            raise
        hold()
        return found

    def is_lock_conflict(output: list[str]) -> bool:
        release()
        return tell(output)

    look, tell = versioning.changed, repro.is_lock_conflict
    monkeypatch.setattr(versioning, "changed", changed)
    monkeypatch.setattr(repro, "is_lock_conflict", is_lock_conflict)
    for name in ("find_work", "run_stage"):
        monkeypatch.setattr(line, name, getattr(line, name).with_options(retry_delay_seconds=[0.1] * 5))
    hold()
    state = flow(ready.root)
    assert state.is_completed(), state
    runs = task_runs(state)
    counts = {run.run_count for name, run in runs.items() if name == "train@vae" or name.startswith("plan")}
    assert counts == {2}
    assert runs["train@dcgan"].run_count == 1
    assert sorted(ready.ran()) == sorted(ALL)


def test_a_stage_past_its_deadline_is_ended(ready, flow) -> None:
    ready.replace("dvc.yaml", "deadline_minutes: 2", "deadline_minutes: 0.4")
    ready.write("trick-train-vae.py", "import time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(100)")
    state = flow(ready.root)
    assert state.is_failed()
    assert state.message.startswith("train@vae took more than 0.4 minutes: raise its meta.deadline_minutes in dvc.yaml")
    assert not Path(f"/proc/{(ready.root / 'pid').read_text()}").exists()


@pytest.mark.parametrize("damage", ["absent", "changed", "no data.dvc"])
def test_data_that_is_not_what_data_dvc_says(ready, flow, damage: str) -> None:
    if damage == "changed":
        ready.write("data/more", "x")
        expected = "the data folder does not match data.dvc: run `dvc checkout --force data.dvc`"
    else:
        shutil.rmtree(ready.root / "data")
        shutil.rmtree(ready.root / ".dvc/cache")
        ready.replace("data.dvc", "source: digits", "source: elsewhere.tar")
        expected = (
            "data/ is absent, in no cache and no remote, and cannot be made again: there is no source at "
            f"{ready.root / 'elsewhere.tar'}: "
        )
    if damage == "no data.dvc":
        (ready.root / "data.dvc").unlink()
        expected = f"{ready.root / 'data.dvc'} is missing: version some data first with"
    state = flow(ready.root)
    assert state.is_failed()
    assert state.message.startswith(expected), state.message
    assert name_of(state) == "retrain", "it did not come to a plan"
    assert ready.ran() == []
