"""Packages: what does not generate, cannot be exported, or is not what was registered."""

from pathlib import Path
from typing import NamedTuple

import pytest
from mlflow import MlflowClient
from mlflow.pyfunc import PyFuncModel

from flows import tracking
from flows.registry.packaging import package, try_out
from flows.registry.registry import Registry, Version
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.trainings import Training
from genmodel.errors import ModelError, TrackingError
from tests.flows.registry.painted import Blank, Broken, Choosy, Counting, Painter, finished


class Registered(NamedTuple):
    registry: Registry
    version: Version
    program: Path  # its graph, where MLflow keeps it


@pytest.fixture
def registered(settings: Settings, training: Training, tmp_path: Path) -> Registered:
    """A model that is registered and sound."""
    tracker = Tracker(settings)
    folder, painter, card = finished(training, tmp_path / "model", seed=0)
    tracker.begin(training, 1000)
    registry = Registry(tracker)
    version = registry.register(folder, painter, card)
    (program,) = (settings.root / "mlartifacts").rglob("model.pt2")
    return Registered(registry, version, program)


def test_a_version_that_does_not_generate_is_told_from_one_that_does(registered: Registered) -> None:
    registry, version, program = registered
    assert registry.try_out(version) == "It loads from the registry and generates 8 px images."
    whole = program.read_bytes()
    program.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ModelError, match="version 1 of genmodel is damaged: its package is not the one") as caught:
        registry.try_out(version)
    assert "\n" not in str(caught.value)
    program.unlink()
    with pytest.raises((ModelError, TrackingError)):
        registry.try_out(version)
    program.write_bytes(whole)
    registry.try_out(version)


def test_a_model_that_paints_one_value_does_not_generate(settings: Settings, tmp_path: Path) -> None:
    package(tmp_path / "blank", Blank().eval(), "it", {}, settings, [])
    with pytest.raises(ModelError, match="it generates blank images: all their values are 7"):
        try_out(tmp_path / "blank", "it", settings)


def test_what_was_just_tried_out_is_not_loaded_again_until_its_bytes_change(
    registered: Registered, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry, version, program = registered
    assert not [path for path in program.parents[1].rglob("*") if path.name == "__pycache__"], "left by its first load"
    loads: list[Path] = []

    def load(folder: Path, settings: Settings) -> PyFuncModel:
        loads.append(folder)
        return tracking_load(folder, settings)

    tracking_load = tracking.load
    monkeypatch.setattr(tracking, "load", load)
    assert registry.try_out(version) == Registry(Tracker(settings)).try_out(version)
    assert len(loads) == 1, "the second registry has not tried it out"


def test_a_graph_that_draws_other_images_than_the_model_is_refused(settings: Settings, tmp_path: Path) -> None:
    told = r"^it cannot be registered: its exported graph draws other images than the model \(9\d% of"
    with pytest.raises(ModelError, match=told):
        package(tmp_path / "counting", Counting().eval(), "it", {}, settings, [])


@pytest.mark.parametrize("kind", [Choosy, Broken])
def test_a_model_that_cannot_be_exported_leaves_the_registry_as_it_was(
    kind: type[Painter], settings: Settings, training: Training, tmp_path: Path
) -> None:
    tracker = Tracker(settings)
    folder, painter, card = finished(training, tmp_path / "model", seed=0)
    run_id = tracker.begin(training, 1000).run_id
    with pytest.raises(ModelError, match=r"^small-vae cannot be registered: ") as caught:
        Registry(tracker).register(folder, kind().eval(), card)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    assert not client.search_registered_models() and not client.list_artifacts(run_id, "card")
    assert not client.search_logged_models([run.info.experiment_id for run in [client.get_run(run_id)]])
    assert not list(settings.root.glob("mlflow.db.scratch-*"))
    assert Registry(tracker).register(folder, painter, card).number == "1"


@pytest.mark.fault("damaged model in the registry")
def test_the_package_is_checked_before_anything_of_it_runs(
    registered: Registered, settings: Settings, training: Training, tmp_path: Path
) -> None:
    """A flipped graph, replaced code, and weights exchanged together with the config that names them."""
    registry, version, program = registered
    package = program.parent.parent
    other, _, _ = finished(training, tmp_path / "other", seed=1)
    ran = tmp_path / "ran"
    changes: list[dict[Path, bytes]] = [
        {program: _flipped(program)},
        {package / "served.py": f"open({str(ran)!r}, 'w')\n".encode()},
        {package / "extra_files" / n: (other / n).read_bytes() for n in ("weights.safetensors", "config.json")},
        {package / "extra_files/report.json": b"{}"},
        {package / "more.py": b""},
    ]
    for change in changes:
        whole = {path: path.read_bytes() if path.exists() else None for path in change}
        for path, content in change.items():
            path.write_bytes(content)
        for look in (registry.try_out, registry.verify, lambda it: registry.download(it, tmp_path / "fetched")):
            with pytest.raises(ModelError, match="version 1 of genmodel is damaged: its package is not the one"):
                look(version)
        assert not ran.exists() and not (tmp_path / "fetched").exists()
        for path, before in whole.items():
            path.unlink() if before is None else path.write_bytes(before)
    assert registry.verify(version)
    assert not list(settings.root.glob("mlflow.db.scratch-*"))

    registry.tag("1", {"genmodel.package": None})  # as of before: the weights alone are known
    old = registry.find("1")
    assert not registry.verify(old)
    weights = package / "extra_files/weights.safetensors"
    weights.write_bytes(_flipped(weights))
    with pytest.raises(ModelError, match="its weights are not those that were registered"):
        registry.verify(old)


def _flipped(path: Path) -> bytes:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    return bytes(content)
