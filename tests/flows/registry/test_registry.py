"""Registered models: exported without pickle, loaded by anyone's MLflow, once for equal weights."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient

from flows.registry.registry import CHAMPION, PREVIOUS, Registry
from flows.settings import Settings
from flows.tracking import Owner, Tracker
from flows.tracking.lease import LEASE, OWNER, Lease
from flows.tracking.trainings import Training
from genmodel.errors import StorageError, TrackingError
from genmodel.sampling.draw import Sampler
from tests.flows.registry.painted import finished

LOAD = """
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/genmodel@champion")
codes = np.load(sys.argv[1])
(part,) = model.model_config["space"]["parts"]
assert part["kind"] == "normal" and part["shape"] == [4] and model.model_config["classes"] == []
images = [model.predict(codes[:n]) for n in (1, 3, 5)]
assert all(type(batch) is np.ndarray and batch.dtype == np.uint8 for batch in images)
assert [batch.shape for batch in images] == [(1, 8, 8, 3), (3, 8, 8, 3), (5, 8, 8, 3)]
np.save(sys.argv[2], images[-1])
try:
    model.predict(np.zeros((2, 7), np.float32))
except mlflow.exceptions.MlflowException:
    print("refuses codes of another size")
"""


def test_anyones_mlflow_loads_the_champion_without_pickle(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    tracker = Tracker(settings)
    registry = Registry(tracker)
    folder, painter, card = finished(training, tmp_path / "model", seed=0)
    with pytest.raises(TrackingError, match="no run of the training"):
        registry.register(folder, painter, card)
    run_id = tracker.begin(training, 1000).run_id
    version = registry.register(folder, painter, card)
    again = Registry(Tracker(settings)).register(folder, painter, card)
    assert again == version == registry.find("1") == registry.numbered("1")
    assert (version.number, version.run_id) == ("1", run_id)
    tags = dict(version.tags)
    assert len(tags.pop("genmodel.package")) == 64 and "git repository" in tags.pop("genmodel.git")
    assert tags == {
        "genmodel.name": "small-vae",
        "genmodel.fingerprint": training.fingerprint,
        "genmodel.weights": card.report.weights,
        "genmodel.family": "vae",
        "genmodel.data": training.data.digest,
        "eval.fd_classifier": "12.3457",
        "eval.kd_classifier": "nan",
    }
    registry.set_alias(CHAMPION, version.number)
    assert registry.version(CHAMPION) == registry.find("champion") == version
    assert registry.version(PREVIOUS) is None and registry.numbered("2") is None
    for absent in ("2", "previous", "x' or 'a' = 'a"):
        with pytest.raises(TrackingError, match="has no version"):
            registry.find(absent)

    codes = np.random.default_rng(1).standard_normal((5, 4), dtype=np.float32)
    np.save(tmp_path / "codes.npy", codes)
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "codes.npy"), str(tmp_path / "images.npy")]
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (told.returncode, told.stdout.strip()) == (0, "refuses codes of another size"), told.stderr
    with torch.no_grad():
        expected = Sampler(painter)(torch.from_numpy(codes)).numpy()
    assert np.array_equal(np.load(tmp_path / "images.npy"), expected)

    registry.download(version, tmp_path / "fetched")
    assert {path.name: path.read_bytes() for path in (tmp_path / "fetched").iterdir()}.keys() == {
        "weights.safetensors",
        "config.json",
        "report.json",
        "card.md",
        "samples.png",
    }
    for name in ("weights.safetensors", "config.json"):
        assert (tmp_path / "fetched" / name).read_bytes() == (folder / name).read_bytes()
    assert json.loads((tmp_path / "fetched" / "report.json").read_text()) == card.report.as_dict()
    packages = list((settings.root / "mlartifacts" / "models").glob("*/artifacts"))
    assert len(packages) == 1
    needed = (packages[0] / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in needed] == ["mlflow", "numpy", "torch"]
    assert not any("+" in line for line in needed)  # a build that no index has
    assert not [path for path in packages[0].rglob("*") if path.suffix in {".pkl", ".pickle", ".pth", ".pt"}]


def test_the_card_is_a_file_a_part_of_the_run_and_the_version_s_description(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    tracker = Tracker(settings)
    folder, painter, card = finished(training, tmp_path / "model", seed=0)
    run_id = tracker.begin(training, 1000).run_id
    version = Registry(tracker).register(folder, painter, card)
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    shown = client.get_model_version("genmodel", version.number).description
    assert "# small-vae: a vae of 8 px" in shown and "fd_classifier | 12.35" in shown
    assert f"![samples](get-artifact?path=card%2Fsamples.png&run_uuid={run_id})" in shown
    assert {file.path for file in client.list_artifacts(run_id, "card")} == {"card/card.md", "card/samples.png"}
    Registry(tracker).download(version, tmp_path / "fetched")
    text = (tmp_path / "fetched/card.md").read_text()
    assert "![samples](data:image/png;base64," in text and "get-artifact" not in text
    long = replace(card, report=replace(card.report, health=["a finding " * 900])).described(run_id)
    assert len(long) <= 5000 and long.endswith("... the rest is in card.md")
    assert "data:image" not in shown and shown.startswith("# small-vae")
    without = replace(card, grid=None)
    assert "No sample grid was kept." in without.described(run_id)
    assert [path.name for path in without.write(tmp_path / "plain")] == ["card.md"]


def test_twins_of_another_machine_and_half_made_models_are_removed(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    tracker = Tracker(settings)
    folder, painter, card = finished(training, tmp_path / "model", seed=0)
    run_id = tracker.begin(training, 1000).run_id
    registry = Registry(tracker)
    dead = replace(Owner.here(), start=0)  # of this machine, and no process of it
    with tracker.talking() as (client, experiment):
        half_made = client.create_logged_model(experiment, "half made", run_id, Lease(dead).tags())
        theirs = client.create_logged_model(experiment, "theirs", run_id, {"genmodel.name": "theirs"})
    original, twin = client.create_model_version, []

    def slow(*arguments: Any, **named: Any) -> Any:  # another machine is quicker, between our search and our creation
        other = client.create_logged_model(experiment, "other", run_id, dict(arguments[3]))
        twin.append(original("genmodel", "file:///nowhere", run_id, arguments[3], model_id=other.model_id))
        return original(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client, "create_model_version", slow)
        version = registry.register(folder, painter, card)
    assert version.number == str(twin[0].version) == "1"
    assert [str(found.version) for found in client.search_model_versions("name = 'genmodel'")] == ["1"]
    left = {model.model_id: model for model in client.search_logged_models([experiment])}
    assert half_made.model_id not in left and theirs.model_id in left
    assert not any(key in model.tags for model in left.values() for key in (OWNER, LEASE)), "nothing is being made"


def test_a_full_tmpdir_is_not_in_the_way(
    disk: Callable[[str], None], in_child: Callable[..., int], settings: Settings, training: Training, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In a child: torch's archive writer aborts its process on a full disk."""
    Path("full").write_bytes(bytes(200_000))
    monkeypatch.setenv("TMPDIR", str(Path.cwd()))
    monkeypatch.setattr(tempfile, "tempdir", None)
    folder, painter, card = finished(training, tmp_path / "model", seed=0)

    def register() -> None:
        tracker = Tracker(settings)
        tracker.begin(training, 1000)
        version = Registry(tracker).register(folder, painter, card)
        assert Registry(tracker).try_out(version) == "It loads from the registry and generates 8 px images."

    assert in_child(register) == 0


def test_a_disk_without_room_for_a_package_is_one_line(
    disk: Callable[[str], None], in_child: Callable[..., int], settings: Settings, training: Training, tmp_path: Path
) -> None:
    disk("3m")
    shutil.copy(settings.root / "mlflow.db", "mlflow.db")
    small = Settings.read({}, Path.cwd())
    folder, painter, card = finished(training, tmp_path / "model", seed=0)

    def register() -> None:
        tracker = Tracker(small)
        tracker.begin(training, 1000)
        with pytest.raises(StorageError, match=r"no space left to write a model in .* MiB are needed"):
            Registry(tracker).register(folder, painter, card)
        with tracker.talking() as (client, experiment):
            assert client.search_logged_models([experiment]) == []

    assert in_child(register) == 0
