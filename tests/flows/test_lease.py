"""One record is sent by one process, and what dead ones left running is closed: with real processes."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from flows.settings import Settings
from flows.tracking import Owner, Tracker, lease
from flows.tracking.trainings import Training
from genmodel.errors import FollowedError
from genmodel.files.model_folder import write_config

# argv: project, boot ("" for this machine's own); it trains until it gets a line
TRAINING = """
import pickle, sys
from pathlib import Path
from flows.tracking.follower import Follower
from flows.tracking import lease
root, boot = Path(sys.argv[1]), sys.argv[2]
if boot:
    lease._boot = lambda: boot
settings, training = pickle.loads((root / "told").read_bytes())
Follower.patience, Follower.nice = 120, 0
with Follower(settings, training, root / "record", root / "record", interval=0.1):
    print("trains", flush=True)
    input()
"""


class Project:
    """A training process with a record of its own, which has other times than the same one elsewhere."""

    def __init__(self, root: Path, settings: Settings, training: Training, time_ms: int) -> None:
        self.root, self.settings, self.training, self.time_ms = root, settings, training, time_ms
        (root / "record" / "samples").mkdir(parents=True)
        (root / "told").write_bytes(pickle.dumps((settings, training)))

    def add(self, *images_seen: int) -> None:
        with (self.root / "record" / "metrics.jsonl").open("a") as handle:
            for n in images_seen:
                entry = {"step": n, "images_seen": n, "time_ms": self.time_ms + n, "metrics": {"loss/total": 0.5}}
                handle.write(json.dumps(entry) + "\n")

    def start(self, boot: str = "") -> "subprocess.Popen[str]":
        with (self.root / "said").open("a") as said:
            process = subprocess.Popen(
                [sys.executable, "-c", TRAINING, str(self.root), boot], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=said, text=True,
            )  # fmt: skip
        assert process.stdout is not None and process.stdout.readline() == "trains\n"
        return process

    def said(self) -> str:
        return (self.root / "said").read_text()

    def run(self) -> Run | None:
        client = MlflowClient(self.settings.tracking_uri, self.settings.tracking_uri)
        if (experiment := client.get_experiment_by_name("genmodel")) is None:
            return None
        query = f"tags.`genmodel.fingerprint` = '{self.training.fingerprint}'"
        found = list(client.search_runs([experiment.experiment_id], query))
        assert len(found) <= 1
        return found[0] if found else None

    def sent(self) -> list[int]:
        """The images seen of all rows that have arrived, doubled ones twice."""
        if (run := self.run()) is None:
            return []
        client = MlflowClient(self.settings.tracking_uri, self.settings.tracking_uri)
        return sorted(metric.step for metric in client.get_metric_history(run.info.run_id, "loss/total"))

    def state(self) -> tuple[str, str] | None:
        run = self.run()
        return (run.info.status, run.data.tags["genmodel.outcome"]) if run else None


@pytest.fixture
def make(settings: Settings, training: Training, tmp_path: Path) -> Callable[..., Project]:
    def made(name: str, fingerprint: str = training.fingerprint, time_ms: int = 10**12) -> Project:
        return Project(tmp_path / name, settings, replace(training, fingerprint=fingerprint), time_ms)

    return made


@pytest.fixture
def started() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    with ExitStack() as stack:

        def start(project: Project, boot: str = "") -> "subprocess.Popen[str]":
            process = stack.enter_context(project.start(boot))
            stack.callback(process.kill)
            return process

        yield start


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def finish(process: "subprocess.Popen[str]") -> None:
    process.communicate("\n", timeout=150)
    assert process.returncode == 0


@pytest.mark.parametrize("boot", ["", "elsewhere"], ids=["this machine", "another machine"])
def test_two_that_train_the_same_send_it_once(
    make: Callable[..., Project], started: Callable[..., "subprocess.Popen[str]"], boot: str
) -> None:
    first, second = make("first"), make("second", time_ms=2 * 10**12)
    first.add(0, 1)
    one = started(first, boot)
    wait_for(lambda: first.sent() == [0, 1])
    second.add(0, 1, 2)
    two = started(second)
    wait_for(lambda: "its record is not sent twice" in second.said())
    first.add(2)
    wait_for(lambda: first.sent() == [0, 1, 2])
    finish(one)
    second.add(3)
    wait_for(lambda: second.sent() == [0, 1, 2, 3])
    finish(two)
    assert second.sent() == [0, 1, 2, 3] and second.state() == ("FINISHED", "trained")
    assert second.said().startswith("the training of small-vae has been followed") and second.said().count("\n") == 1
    assert first.said() == ""
    run = second.run()
    assert run is not None and not {lease.OWNER, lease.LEASE} & set(run.data.tags), "cleared at the end"


def test_one_that_ends_beside_the_owner_says_no_more_than_that(
    make: Callable[..., Project], started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    first, second = make("first"), make("second", time_ms=2 * 10**12)
    first.add(0)
    started(first)
    wait_for(lambda: first.sent() == [0])
    second.add(0, 1)
    two = started(second)
    finish(two)
    assert second.said().count("\n") == 1 and "its record is not sent twice" in second.said()
    assert first.sent() == [0] and first.state() == ("RUNNING", "training")


@pytest.mark.fault("runs left open by a kill")
def test_the_next_takes_over_from_one_that_was_killed(
    make: Callable[..., Project], started: Callable[..., "subprocess.Popen[str]"]
) -> None:
    first, second = make("first"), make("second", time_ms=2 * 10**12)
    first.add(0, 1)
    one = started(first)
    wait_for(lambda: first.sent() == [0, 1])
    second.add(0, 1, 2)
    two = started(second)
    wait_for(lambda: "its record is not sent twice" in second.said())
    one.kill()
    one.wait()
    wait_for(lambda: second.sent() == [0, 1, 2])
    finish(two)
    assert second.state() == ("FINISHED", "trained")


@pytest.mark.fault("runs left open by a kill")
@pytest.mark.parametrize("by", ["follower", "restore"])
def test_what_was_killed_is_closed_at_the_next_start_and_what_lives_is_not(
    make: Callable[..., Project], started: Callable[..., "subprocess.Popen[str]"], by: str, settings: Settings,
    tmp_path: Path,
) -> None:  # fmt: skip
    killed, living, later = make("killed", "01" * 32), make("living", "02" * 32), make("later", "03" * 32)
    for project in (killed, living):
        project.add(0)
    dead, _ = started(killed), started(living)
    wait_for(lambda: killed.sent() == living.sent() == [0])
    dead.kill()
    dead.wait()
    before = time.time_ns() // 1_000_000
    assert killed.state() == ("RUNNING", "training")
    time.sleep(1)
    if by == "follower":
        finish(started(later))
    else:
        described = {"name": "small", "fingerprint": later.training.fingerprint, "config": later.training.config}
        described["weights"] = "0" * 64
        later.add(0)
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "history.csv").write_text("images_seen,loss/total\n0,0.5\n")
        write_config(tmp_path / "model", described)
        Tracker(settings).restore(tmp_path / "model", later.training.data, tmp_path)
    assert killed.state() == ("KILLED", "stopped")
    assert later.state() == ("FINISHED", "trained")
    assert living.state() == ("RUNNING", "training")
    run = killed.run()
    assert run is not None and not {lease.OWNER, lease.LEASE} & set(run.data.tags)
    assert run.info.end_time <= before + 100, "when it was last followed, not when this was noticed"


def test_restore_leaves_a_run_to_the_process_that_follows_it(
    make: Callable[..., Project], started: Callable[..., "subprocess.Popen[str]"], settings: Settings,
    tmp_path: Path, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    project = make("first")
    project.add(0)
    process = started(project)
    wait_for(lambda: project.sent() == [0])
    described = {"name": "small", "fingerprint": project.training.fingerprint, "config": project.training.config}
    described["weights"] = "0" * 64
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "history.csv").write_text("images_seen,loss/total\n0,0.5\n1,0.5\n")
    write_config(tmp_path / "model", described)
    Tracker(settings).restore(tmp_path / "model", project.training.data, tmp_path)
    assert "its record is not sent twice" in capfd.readouterr().err
    assert project.sent() == [0] and project.state() == ("RUNNING", "training")
    process.kill()
    process.wait()
    Tracker(settings).restore(tmp_path / "model", project.training.data, tmp_path)
    assert project.sent() == [0, 1] and project.state() == ("FINISHED", "trained")


@pytest.mark.fault("clock moved")
@pytest.mark.parametrize("hours", [-3, 0, 3], ids=lambda hours: f"clock {hours:+d} h")
def test_a_lease_elsewhere_holds_while_it_is_seen_to_change(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_HELD", 1.0)
    monkeypatch.setattr(lease, "_WATCHED", 0.5)
    there = replace(Owner.here(), boot="elsewhere")
    here = lease.Lease(Owner.here())
    for _ in range(8):
        tags = {**there.tag(), lease.LEASE: str(time.time() + 3600 * hours)}
        assert here.holder("run", tags) == there
        time.sleep(0.25)
    time.sleep(1)
    assert here.holder("run", tags) is None
    assert lease.Lease(there).holder("run", tags) is None, "its own"


def test_a_process_is_known_by_more_than_its_number() -> None:
    me = Owner.here()
    assert me.is_alive() and Owner.read(me.tag()) == me
    assert replace(me, start=me.start - 1).is_alive() is False, "the PID was given again"
    assert replace(me, boot="elsewhere").is_alive() is None
    for damaged in (
        {},
        {lease.OWNER: ""},
        {lease.OWNER: "[]"},
        {lease.OWNER: '{"host": "a"}'},
        {lease.OWNER: "[" * 10**6},
    ):
        assert Owner.read(damaged) is None and not lease.is_abandoned(damaged)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        other = replace(me, pid=process.pid, start=lease._start(process.pid) or 0)
        assert other.is_alive()
        process.kill()
        time.sleep(0.5)
        assert other.is_alive() is False, "a zombie follows nothing"


def test_a_run_that_was_taken_over_is_not_sent_to(settings: Settings, training: Training) -> None:
    tracker = Tracker(settings)
    sent = tracker.begin(training, 1000)
    assert tracker.renew(sent.run_id)
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    there = replace(Owner.here(), boot="elsewhere")
    for key, value in lease.Lease(there).tags().items():
        client.set_tag(sent.run_id, key, value)
    assert not tracker.renew(sent.run_id)
    with pytest.raises(FollowedError, match="has been followed by"):
        tracker.begin(training, 1000)
    assert Tracker(settings, there).renew(sent.run_id), "its owner goes on"
