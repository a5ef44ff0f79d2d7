"""Registered models: exported without pickle, loaded by anyone's MLflow, once for equal weights."""

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from torch import Tensor, nn

from flows.record import Training
from flows.registry import CANDIDATE, CHAMPION, PREVIOUS, Registry, Version
from flows.settings import Settings
from flows.tracking import Tracker
from genmodel import tensors
from genmodel.errors import TrackingError

LOAD = """
import sys
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/genmodel@champion")
codes = np.load(sys.argv[1])
images = [model.predict(codes[:n]) for n in (1, 3, 5)]
assert all(type(batch) is np.ndarray and batch.dtype == np.uint8 for batch in images)
assert [batch.shape for batch in images] == [(1, 8, 8, 3), (3, 8, 8, 3), (5, 8, 8, 3)]
np.save(sys.argv[2], images[-1])
try:
    model.predict(np.zeros((2, 7), np.float32))
except mlflow.exceptions.MlflowException:
    print("refuses codes of another size")
"""


class Painter(nn.Module):
    """Codes float32 [N, 4] to images uint8 [N, 8, 8, 3]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(4, 8 * 8 * 3)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z).sigmoid().mul(255).round().to(torch.uint8).view(-1, 8, 8, 3)


def finished(training: Training, folder: Path, seed: int) -> tuple[Path, dict[str, Any], Painter]:
    """A model's folder, its report and its sampler."""
    painter = Painter(seed).eval()
    folder.mkdir()
    weights = tensors.save(folder / "weights.safetensors", painter.state_dict())
    described = {"name": "small-vae", "fingerprint": training.fingerprint, "config": training.config}
    (folder / "config.json").write_text(json.dumps({**described, "weights": weights}))
    figures = {"fd_classifier": 12.3456789 + seed, "bits_per_dim": None}
    return folder, {"name": "small-vae", "weights": weights, "conditions": {}, "figures": figures}, painter


def test_anyones_mlflow_loads_the_champion_without_pickle(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    tracker = Tracker(settings)
    registry = Registry(tracker)
    folder, report, painter = finished(training, tmp_path / "model", seed=0)
    with pytest.raises(TrackingError, match="no run of the training"):
        registry.register(folder, report, painter, latent_dim=4)
    run_id = tracker.begin(training, 1000).run_id
    version = registry.register(folder, report, painter, latent_dim=4)
    assert Registry(Tracker(settings)).register(folder, report, painter, latent_dim=4) == version
    assert (version.number, version.run_id) == ("1", run_id)
    assert version.tags == {
        "genmodel.fingerprint": training.fingerprint,
        "genmodel.weights": report["weights"],
        "genmodel.family": "vae",
        "genmodel.data": training.data.digest,
        "eval.fd_classifier": "12.3457",
    }
    with registry.promotion():
        registry.promote(version)

    codes = np.random.default_rng(1).standard_normal((5, 4), dtype=np.float32)
    np.save(tmp_path / "codes.npy", codes)
    environment = {**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    command = [sys.executable, "-c", LOAD, str(tmp_path / "codes.npy"), str(tmp_path / "images.npy")]
    told = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (told.returncode, told.stdout.strip()) == (0, "refuses codes of another size"), told.stderr
    with torch.no_grad():
        expected = painter(torch.from_numpy(codes)).numpy()
    assert np.array_equal(np.load(tmp_path / "images.npy"), expected)

    registry.download(version, tmp_path / "fetched")
    assert {path.name: path.read_bytes() for path in (tmp_path / "fetched").iterdir()}.keys() == {
        "weights.safetensors",
        "config.json",
        "report.json",
    }
    for name in ("weights.safetensors", "config.json"):
        assert (tmp_path / "fetched" / name).read_bytes() == (folder / name).read_bytes()
    assert json.loads((tmp_path / "fetched" / "report.json").read_text()) == report
    packages = list((settings.root / "mlartifacts" / "models").glob("*/artifacts"))
    assert len(packages) == 1
    needed = (packages[0] / "requirements.txt").read_text().split()
    assert [line.partition("==")[0] for line in needed] == ["mlflow", "numpy", "torch"]
    assert not any("+" in line for line in needed)  # a build that no index has
    assert "device: cpu" in (packages[0] / "MLmodel").read_text()


def plain_versions(settings: Settings, number: int) -> list[Version]:
    """Versions without models, for what is only about aliases."""
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    client.create_registered_model("genmodel")
    made = [client.create_model_version("genmodel", "file:///nowhere") for _ in range(number)]
    return [Version(str(version.version), "", {}) for version in made]


def test_aliases_move_and_the_old_champion_is_kept(settings: Settings) -> None:
    registry = Registry(Tracker(settings))
    assert registry.version(CHAMPION) is None  # no registered model
    first, second = plain_versions(settings, 2)
    assert registry.version(CHAMPION) is None  # no alias

    def numbers() -> list[str | None]:
        found = [registry.version(alias) for alias in (CANDIDATE, CHAMPION, PREVIOUS)]
        return [version and version.number for version in found]

    registry.set_alias(CANDIDATE, first)
    with registry.promotion():
        registry.promote(first)
    assert numbers() == ["1", "1", None]
    with registry.promotion():
        registry.promote(second)
        registry.promote(second)  # again, as after a kill
    assert numbers() == ["1", "2", "1"]


def test_promotions_that_race_leave_the_better_one(settings: Settings) -> None:
    versions = plain_versions(settings, 4)

    def offer(candidate: Version) -> None:
        registry = Registry(Tracker(settings))
        with registry.promotion():
            champion = registry.version(CHAMPION)
            time.sleep(0.05)  # to decide takes time
            if champion is None or int(candidate.number) > int(champion.number):
                registry.promote(candidate)

    threads = [threading.Thread(target=offer, args=(version,)) for version in reversed(versions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    champion = Registry(Tracker(settings)).version(CHAMPION)
    assert champion is not None and champion.number == "4"
