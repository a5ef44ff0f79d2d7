"""Logged models of registrations that were killed: a real process is killed on its way."""

import pickle
import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient

from flows.settings import Settings
from flows.tracking import Tracker, remove_half_made
from flows.tracking.trainings import Training

# argv: project, how far: "pending", "ready", "version" or "made"; it goes on living
REGISTERS = """
import pickle, sys
from pathlib import Path
from flows.tracking import Tracker, made, making_tags
root, far = Path(sys.argv[1]), sys.argv[2]
settings, training = pickle.loads((root / "told").read_bytes())
tracker = Tracker(settings)
with tracker.talking() as (client, experiment):
    run = tracker.begin(training, 1000).run_id
    model = client.create_logged_model(experiment, far, run, {"a": "b", **making_tags()})
    client.log_model_artifacts(model.model_id, str(root / "package"))
    if far != "pending":
        client.finalize_logged_model(model.model_id, "READY")
    if far in ("version", "made"):
        client.create_registered_model("m")
        client.create_model_version("m", f"models:/{model.model_id}", run, model_id=model.model_id)
    if far == "made":
        made(client, model.model_id)
print("there", flush=True)
input()
"""


def start(root: Path, far: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", REGISTERS, str(root), far]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    return process


def test_what_a_killed_registration_leaves_is_removed_and_nothing_else(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    (tmp_path / "told").write_bytes(pickle.dumps((settings, training)))
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "weights").write_bytes(b"...")
    for far in ("pending", "ready", "version"):
        with start(tmp_path, far) as process:
            process.kill()
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    experiment = client.get_experiment_by_name("genmodel")
    assert experiment is not None
    client.create_logged_model(experiment.experiment_id, "theirs")  # a person's own, PENDING too

    def names() -> list[str]:
        return sorted(model.name for model in client.search_logged_models([experiment.experiment_id]))

    with start(tmp_path, "pending") as living:
        assert names() == ["pending", "pending", "ready", "theirs", "version"]
        for _ in range(2):
            remove_half_made(Tracker(settings))
            assert names() == ["pending", "theirs", "version"]
        living.kill()
    remove_half_made(Tracker(settings))
    assert names() == ["theirs", "version"]
    left = [path.parent.parent.name for path in (tmp_path / "mlartifacts").rglob("weights")]
    (kept,) = client.search_logged_models([experiment.experiment_id], "name = 'version'")
    assert left == [kept.model_id] and set(kept.tags) == {"a"}, "the version has its files, and is no longer being made"
