"""A real training beside a real MLflow server that is killed and frozen: nothing is lost, doubled or held up."""

import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from flows.settings import Settings
from flows.tracking import Owner, Tracker, lease
from flows.tracking import trainings as record
from genmodel.data.block import Block
from genmodel.errors import FollowedError
from genmodel.params import run_config
from genmodel.showing import display
from genmodel.training.identify import identify
from genmodel.training.identity import Identity
from tests.flows.outages import BATCH, BOUND, CONFIG, PATIENCE, ROWS, Scene, Server, content, with_timeout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> Iterator[Server]:
    made = Server(tmp_path_factory.mktemp("server"), empty_database)
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def identity(block: Block) -> Identity:
    return identify("small", run_config(CONFIG, "small"), block)


@pytest.fixture(scope="module")
def alone(identity: Identity, block: Block, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The model as it comes out of a training that nobody follows."""
    root = tmp_path_factory.mktemp("alone")
    display.train(identity, block, root / "model", root / "runs")
    return content(root / "model")


@pytest.fixture
def scene(
    server: Server, identity: Identity, block: Block, alone: dict[str, bytes], tmp_path: Path,
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest,
) -> Iterator[Scene]:  # fmt: skip
    environ = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_EXPERIMENT_NAME": request.node.name}
    if server.process.poll() is not None:  # a test that failed has left it dead
        server.start()
    settings = Settings.read(environ, tmp_path)
    for name, value in with_timeout(60, settings).environment.items():  # what the test itself asks may take its time
        monkeypatch.setenv(name, value)
    scene = Scene(tmp_path, with_timeout(1, settings), identity, block, server, capfd, monkeypatch)
    yield scene
    scene.assert_complete()
    assert content(scene.model) == alone, "the follower has changed the model"


@pytest.mark.fault("MLflow server killed, frozen, late")
def test_a_server_that_comes_late(scene: Scene) -> None:
    scene.server.kill()
    end = scene.train({
        20: scene.wait_for_warning,
        21: scene.server.start,
        22: lambda: scene.wait_for_rows(20),
    })  # fmt: skip
    assert end < BOUND
    assert scene.hear().count("warning") == 1, "once, and nothing about the end"


@pytest.mark.fault("MLflow server killed, frozen, late")
def test_a_server_that_is_killed_on_the_way(scene: Scene) -> None:
    def kill() -> None:
        scene.wait_for_rows(1)  # it is busy with the next ones
        scene.server.kill()

    end = scene.train({
        10: kill,
        30: scene.wait_for_warning,
        31: scene.server.start,
        32: lambda: scene.wait_for_rows(30),
    })  # fmt: skip
    assert end < BOUND
    assert scene.hear().count("warning") == 1


@pytest.mark.fault("MLflow server killed, frozen, late")
def test_a_server_that_is_frozen_on_the_way(scene: Scene) -> None:
    def freeze() -> None:
        scene.wait_for_rows(1)
        scene.server.freeze()

    end = scene.train({
        10: freeze,
        40: scene.wait_for_warning,
        41: scene.server.thaw,
        42: lambda: scene.wait_for_rows(40),
    })  # fmt: skip
    assert end < BOUND
    assert scene.hear().count("warning") == 1


@pytest.mark.fault("MLflow server killed, frozen, late")
@pytest.mark.parametrize("by", ["evaluation", "the same command"])
def test_a_server_that_is_away_at_the_end(scene: Scene, by: str) -> None:
    def kill() -> None:
        scene.wait_for_rows(1)
        scene.server.kill()

    end = scene.train({30: kill})
    assert scene.server.process.returncode == -9
    assert end < PATIENCE / 2, "nobody waits for what is refused"
    warnings = [line for line in scene.hear().splitlines() if line.startswith("warning: ")]  # without the progress
    assert warnings[-2:] == [
        f"warning: cannot reach the tracking server at {scene.server.uri}; "
        "the training does not wait for it, its record follows later",
        "warning: the end of the training of small is not in MLflow: "
        "the model is safe, and its evaluation sends the rest",
    ]
    assert (scene.model / "weights.safetensors").exists()
    scene.server.start()
    (run,) = scene.all_runs()
    assert run.info.status == "RUNNING" and run.data.metrics["images_seen"] < BATCH * ROWS
    if by == "evaluation":
        scene.restore()
    else:
        scene.train({})


@pytest.mark.fault("MLflow server killed, frozen, late")
def test_a_server_that_is_frozen_over_the_end(scene: Scene) -> None:
    def freeze() -> None:
        scene.wait_for_rows(1)
        scene.server.freeze()

    scene.settings = with_timeout(60, scene.settings)  # seconds that a request would wait
    end = scene.train({30: freeze}, patience=3)
    assert end < 6
    assert scene.hear().endswith("is not in MLflow: the model is safe, and its evaluation sends the rest\n")
    scene.server.thaw()  # what waits in it arrives now, beside what is sent again
    scene.restore()


@pytest.mark.fault("MLflow server killed, frozen, late")
def test_an_interrupted_training_goes_on_in_its_run(scene: Scene) -> None:
    def stop() -> None:
        scene.wait_for_rows(1)
        raise SystemExit(143)  # as after SIGTERM

    with pytest.raises(SystemExit):
        scene.train({33: stop}, patience=120)
    (run,) = scene.all_runs()
    assert (run.info.status, run.data.tags["genmodel.outcome"]) == ("KILLED", "stopped")
    assert run.data.metrics["images_seen"] == 33 * BATCH
    scene.train({})
    assert scene.all_runs()[0].info.run_id == run.info.run_id


@pytest.mark.parametrize("there_is_a_run", [False, True])
def test_of_two_machines_that_begin_at_once_one_follows(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there_is_a_run: bool
) -> None:
    """Both have found the run free, or no run, before either has written its name; no lock of theirs is shared."""
    environ = {"MLFLOW_TRACKING_URI": server.uri, "MLFLOW_EXPERIMENT_NAME": f"contended-{there_is_a_run}"}
    training = record.Training(name="small", family="vae", fingerprint="cd" * 32, config={}, data=Scene.data)
    trackers = []
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        settings = Settings.read(environ, tmp_path / place)
        trackers.append(Tracker(settings, replace(Owner.here(), boot=f"machine {place}", host=place)))
        with trackers[-1].talking():
            pass
    if there_is_a_run:
        sent = trackers[0].begin(training, 1000)
        trackers[0].end(sent.run_id, "KILLED", "stopped")

    found = threading.Barrier(2)
    find = Tracker._find

    def find_together(self: Tracker, fingerprint: str) -> list[Run]:
        result = find(self, fingerprint)
        with suppress(threading.BrokenBarrierError):
            found.wait(10)
        found.abort()  # the first time alone
        return result

    monkeypatch.setattr(Tracker, "_find", find_together)
    outcomes: dict[str, str] = {}

    def begin(tracker: Tracker) -> None:
        try:
            sent = tracker.begin(training, 1000)
            outcomes[tracker._lease.owner.host] = "follows"
            tracker.log_rows(sent.run_id, [record.Row(1, 10**12, {"loss/total": 0.5, "images_seen": 1})])
        except FollowedError:
            outcomes[tracker._lease.owner.host] = "waits"

    threads = [threading.Thread(target=begin, args=(tracker,)) for tracker in trackers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes.values()) == ["follows", "waits"], outcomes
    client = MlflowClient(server.uri, server.uri)
    experiment = client.get_experiment_by_name(f"contended-{there_is_a_run}")
    (run,) = client.search_runs([experiment.experiment_id])
    assert len(client.get_metric_history(run.info.run_id, "loss/total")) == 1
    (first,) = (host for host, outcome in outcomes.items() if outcome == "follows")
    owner = Owner.read(run.data.tags)
    assert owner is not None and owner.host == first and lease.LEASE in run.data.tags
