"""Nothing outlives its starter by more than 10 s, whatever is killed: real flows and servers over a toy project.

One kill of each kind; GENMODEL_KILLS=40 makes it forty (tests/kills.py).
"""

import base64
import json
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from flows.running import orphans
from tests.flows.running.processes import Line
from tests.kills import KILLS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for survivors in /proc"),
]


@pytest.mark.fault("kill -9 of flow, guard, dvc, schedule")
@pytest.mark.parametrize("time_of", range(KILLS))
@pytest.mark.parametrize(
    "killed", [("flow",), ("guard",), ("dvc",), ("flow", "guard"), ("guard", "dvc"), ("flow", "server")], ids="+".join
)
def test_nothing_outlives_a_kill(line: Line, killed: tuple[str, ...], time_of: int) -> None:
    line.start()
    line.wait_for_training()
    line.kill(*killed)
    left = line.survivors(flow_may_live="flow" not in killed)
    assert not left
    if "flow" not in killed:
        assert line.ended_after(60) == 2, line.told()
        assert "Traceback" not in line.told()


@pytest.mark.fault("kill -9 of flow, guard, dvc, schedule")
@pytest.mark.parametrize("time_of", range(KILLS))
@pytest.mark.parametrize("killed", [("serve",), ("serve", "guard"), ("serve", "run")], ids="+".join)
def test_nothing_outlives_a_killed_schedule(line: Line, killed: tuple[str, ...], time_of: int) -> None:
    line.start_by_schedule()
    line.kill(*killed)
    assert not line.survivors(flow_may_live=False)


@pytest.mark.fault("kill -9 of the Prefect server")
@pytest.mark.parametrize("time_of", range(KILLS))
@pytest.mark.parametrize("served", [False, True])
def test_a_flow_whose_server_is_killed_ends_with_its_stages(line: Line, served: bool, time_of: int) -> None:
    if served:
        line.start_by_schedule()
    else:
        line.start()
        line.wait_for_training()
    line.kill("server")
    assert not line.survivors(flow_may_live=False)
    assert line.process.wait(10) == 2, line.told()
    last = line.told().splitlines()[-3 if served else -1 :]  # the run that is served may log as long as it lives
    assert any(text.startswith("error: Prefect's server of this process was killed") for text in last), line.told()
    assert "Traceback" not in line.told()


@pytest.mark.fault("runs left open by a kill")
def test_a_killed_run_is_closed_by_the_next_start(line: Line) -> None:
    line.start()
    line.wait_for_training()
    line.kill("flow")
    assert not line.survivors(flow_may_live=False)
    (line.root / "trick-train-dcgan.py").unlink()
    database = f"file:{line.root}/.prefect/prefect.db?mode=ro"
    query = "import sqlite3, sys; base = sqlite3.connect(sys.argv[1], uri=True)\n"
    query += "print(base.execute('select state_type from flow_run').fetchall())"
    ask = [sys.executable, "-c", query, database]
    assert "RUNNING" in subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert line.start().wait(120) == 0, line.told()
    states = subprocess.run(ask, capture_output=True, text=True, check=True).stdout
    assert "CRASHED" in states and "COMPLETED" in states and "RUNNING" not in states


def deployments(line: Line, url: str) -> dict[str, Any]:
    """What a line's server knows of each deployment, but for what changes by itself."""
    known = base64.b64encode((line.root / ".prefect/auth").read_text().strip().encode()).decode()
    ask = urllib.request.Request(f"{url}/api/deployments/count", b"{}", {"Authorization": f"Basic {known}"})
    token = urllib.request.Request(f"{url}/api/csrf-token?client=test", headers={"Authorization": f"Basic {known}"})
    with urllib.request.urlopen(token, timeout=30) as answer:
        csrf = json.load(answer)["token"]
    ask = urllib.request.Request(
        f"{url}/api/deployments/filter",
        b"{}",
        {
            "Authorization": f"Basic {known}", "Content-Type": "application/json", "Prefect-Csrf-Token": csrf,
            "Prefect-Csrf-Client": "test",
        },
    )  # fmt: skip
    kept = ("id", "name", "path", "entrypoint", "tags", "schedules", "parameters", "created")
    with urllib.request.urlopen(ask, timeout=30) as answer:
        return {each["name"]: {key: each[key] for key in kept} for each in json.load(answer)}


def test_two_served_projects_leave_each_other_s_schedule_alone(line: Line, tmp_path: Path) -> None:
    """Two folders of one name: each has a server of its own; and on a server that they share, a name of its own."""
    others = []
    for place in ("b", "c"):
        shutil.copytree(line.root, tmp_path / place / "project")
        others.append(object.__new__(Line))
        others[-1].__dict__ |= line.__dict__ | {"root": tmp_path / place / "project", "processes": {}}
    second, sharing = others
    try:
        name, url = line.serve()
        before = deployments(line, url)
        assert [f"retrain/{known}" for known in before] == [name]

        other_name, other_url = second.serve()
        assert other_name != name and other_url != url
        assert [f"retrain/{known}" for known in deployments(second, other_url)] == [other_name]
        assert deployments(line, url) == before

        sharing.environ = {
            **line.environ,
            "PREFECT_API_URL": f"{url}/api",
            "PREFECT_API_AUTH_STRING": (line.root / ".prefect/auth").read_text().strip(),
        }
        third_name, _ = sharing.serve()
        both = deployments(line, url)
        assert [f"retrain/{known}" for known in both] == [name, third_name] or third_name != name
        assert {known: facts for known, facts in both.items() if known in before} == before and len(both) == 2
    finally:
        for each in others:
            if "process" in each.__dict__ and each.process is not line.__dict__.get("process"):
                each.process.terminate()
                each.process.wait(60)


@pytest.mark.fault("runs left open by a kill")
@pytest.mark.usefixtures("prefect_server")
def test_the_closing_of_dead_runs_leaves_all_others_as_they_are(tmp_path: Path) -> None:
    from prefect.client.orchestration import get_client
    from prefect.states import Running

    from flows.running.line import retrain

    ours, theirs, dead = tmp_path / "ours" / "project", tmp_path / "theirs" / "project", 2**22 + 1
    with subprocess.Popen(["sleep", "60"]) as living:
        reused = orphans.marks(ours, living.pid)[1].rpartition(":")[0] + ":1"
        marks = {
            "killed": orphans.marks(ours, dead),
            "killed, its number given again": [orphans.project(ours), reused],
            "living": orphans.marks(ours, living.pid),
            "not claimed yet": [orphans.project(ours)],
            "another project's": orphans.marks(theirs, dead),
            "another tool's": ["nightly"],
            "without tags": [],
        }
        with get_client(sync_client=True) as client:
            runs = {name: client.create_flow_run(retrain, tags=tags, state=Running()) for name, tags in marks.items()}

            def running() -> set[str]:
                return {name for name, run in runs.items() if client.read_flow_run(run.id).state.is_running()}

            assert running() == set(marks)
            assert orphans.close(ours) == 2
            assert set(marks) - running() == {"killed", "killed, its number given again"}
            assert orphans.close(ours, unclaimed=True) == 1
            assert "not claimed yet" not in running() and len(running()) == 4
            living.kill()
            living.wait()
            assert orphans.close(ours) == 1
            assert running() == {"another project's", "another tool's", "without tags"}
