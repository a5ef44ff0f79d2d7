"""The flow shares its machine: slots for trainings, budgets, and one retraining of a project at a time."""

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from flows import retrain
from flows.costs import ledger
from flows.running.server import OWN_SERVER
from flows.versioning import locks

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]
SLOT = f"gpu@{socket.gethostname()}"

# a stage that tells when it began and ended, and which GPU it was given
TIMED = """
import time
began = time.time()
time.sleep({seconds})
with open("times.txt", "a") as times:
    print(json.dumps([*sys.argv[1:], began, time.time(), os.environ.get("CUDA_VISIBLE_DEVICES", "")]), file=times)
"""


def limit() -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_global_concurrency_limit_by_name(SLOT)


def test_trainings_take_turns_and_a_lost_lease_ends_none(
    ready: Any, flow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The lease cannot be renewed from the first moment on; and a killed flow of before has left its slot occupied."""
    from prefect.client.orchestration import SyncPrefectClient, get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate, GlobalConcurrencyLimitUpdate
    from prefect.concurrency import _leases

    def lost(*_: Any, **__: Any) -> None:
        raise ConnectionError("no server")

    monkeypatch.setattr(SyncPrefectClient, "renew_concurrency_lease", lost)
    monkeypatch.setattr(_leases, "_RENEWAL_RETRY_BASE_DELAY", 0.01)
    monkeypatch.setenv("GENMODEL_GPU_SLOTS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    monkeypatch.setenv(OWN_SERVER, "1")
    with get_client(sync_client=True) as client:
        client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=SLOT, limit=5))
        client.update_global_concurrency_limit(SLOT, GlobalConcurrencyLimitUpdate(active_slots=5))
    for stage in ("train-dcgan", "train-vae"):
        ready.write(f"trick-{stage}.py", TIMED.format(seconds=2))
    for stage in ("evaluate-dcgan", "evaluate-vae"):
        ready.write(f"trick-{stage}.py", TIMED.format(seconds=0))
    state = flow(ready.root)
    assert state.is_completed(), state
    times = {tuple(row[:2]): row[2:] for row in map(json.loads, (ready.root / "times.txt").read_text().splitlines())}
    (first, one), (_, two) = sorted(
        ((key[1], value) for key, value in times.items() if key[0] == "train"), key=lambda each: each[1][0]
    )
    assert one[1] <= two[0], "one after the other"
    assert times["evaluate", first][1] < two[1], "what needs no GPU runs beside"
    assert one[2] == two[2] == "7" and times["evaluate", first][2] == "7", "the one that this process may use"
    assert "lease renewal failed" in caplog.text
    found = limit()
    assert (found.limit, found.active_slots) == (1, 0)
    (run,) = [line for line in ledger.read(ready.root) if not line.stage]
    assert run.run == str(state.state_details.flow_run_id) and run.cost.seconds > 4

    from prefect.artifacts import Artifact

    (row,) = json.loads(str(Artifact.get("costs").data))  # type: ignore[union-attr]
    assert row["stages"] == 0, "the toy's own stages write no ledger"


def test_a_run_over_budget_starts_nothing_and_has_its_own_exit_code(
    ready: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], received: Any
) -> None:
    from prefect.settings import PREFECT_API_URL

    url, messages = received
    monkeypatch.setenv("GENMODEL_NOTIFY", url)
    monkeypatch.setenv("PREFECT_API_URL", str(PREFECT_API_URL.value()))
    monkeypatch.chdir(ready.root)
    cost = ledger.Cost(seconds=3600.0, gpu_hours=1.0)
    ledger.keep(ready.root, ledger.Line(time=datetime.now(UTC), run="before", stage="train@vae", cost=cost))
    with (ready.root / "params.yaml").open("a") as params:
        params.write("budget: {run: {max_gpu_hours: 0.5}}\n")
    with pytest.raises(SystemExit, match="77"):
        retrain.main([])
    assert "error: not started: this run has used 0 GPU hours and would need 1 GPU hours" in capsys.readouterr().err
    assert ready.ran() == []
    (message,) = messages
    assert "not started: this run has used" in message["message"]


def test_two_retrainings_at_once_run_one_after_the_other_or_one_leaves(
    ready: Any, flow: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    received: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    url, messages = received
    monkeypatch.setenv("GENMODEL_NOTIFY", url)
    monkeypatch.chdir(ready.root)
    release, held = threading.Event(), threading.Event()

    def other() -> None:
        with locks.project(ready.root):
            held.set()
            release.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert held.wait(10)
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(SystemExit, match="75"):
        retrain.main(["--if-running", "leave"])
    said = capsys.readouterr().err
    assert said.startswith(f"error: process {os.getpid()}") and said.count("\n") == 1
    assert not (ready.root / ".prefect").exists(), "no server was started for it"
    state = flow(ready.root)  # as a schedule starts it
    assert (state.type.value, state.name) == ("CANCELLED", "Busy") and messages == [], "it has not failed"
    monkeypatch.setenv("GENMODEL_IF_RUNNING", "wait")
    ready.dvc("repro", "--quiet")
    ready.ran()
    monkeypatch.setenv("GENMODEL_KEEP_RUNS", "5")
    threading.Timer(3, release.set).start()
    began = time.monotonic()
    state = flow(ready.root)
    assert state.is_completed() and time.monotonic() - began > 2.5, state
    assert ready.ran() == []
    assert "waiting for retrain.lock" in capsys.readouterr().err
    assert "flows.gc freed" in caplog.text and "the last 5 runs stay" in caplog.text
    thread.join()
