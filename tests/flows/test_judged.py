"""The champion is judged by its own package: whatever becomes of its family's code, the gate works."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from torch import nn

from flows.registry.packaging import digest
from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.tracking import Tracker, load
from genmodel.evaluation.report import Report
from genmodel.files import durable
from genmodel.files.model_folder import read_config
from genmodel.models import vae
from genmodel.models.families import FAMILIES
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from tests.flows.small_project import change, decision, run

pytestmark = pytest.mark.slow


@pytest.fixture
def registry(decided: Path, settings: Settings) -> Registry:
    """Of a project whose champion is a VAE."""
    return Registry(Tracker(settings))


@pytest.fixture
def package(registry: Registry, decided: Path) -> Path:
    """The champion's package, where MLflow keeps it."""
    (found,) = (decided / "mlartifacts").rglob("MLmodel")
    return found.parent


def retrained(old: str = "learning_rate: 0.01", new: str = "learning_rate: 0.02") -> dict[str, Any]:
    """The decision about a model of another recipe."""
    change(Path(), old, new)
    run("train small", "evaluate small", "compare", "register")
    return decision(Path())


def asked_again() -> dict[str, Any]:
    """The decision about the same model, once more: another rule is another request."""
    rule = next(line for line in Path("params.yaml").read_text().splitlines() if line.startswith("gate"))
    bound = rule.partition("max_copied: ")[2].rstrip("}")
    change(Path(), rule, rule.replace(f"max_copied: {bound}", f"max_copied: {0.9 * float(bound):.6f}"))
    run("register")
    return decision(Path())


def judged(told: dict[str, Any], before: dict[str, Any]) -> bool:
    """Whether the champion was weighed, by the same figure as when it became champion under the same conditions."""
    champion, then = told["champion"], before["candidate"]
    assert champion["weights"] == then["weights"] and champion["name"] == then["name"]
    assert champion["value"] == pytest.approx(then["value"], rel=1e-3), "the same images, but for rounding"
    assert champion["interval"] == pytest.approx(then["interval"], rel=1e-2)
    return "cannot be judged" not in " ".join(told["reasons"])


def test_a_champion_whose_family_has_other_layers_now(
    registry: Registry, decided: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = decision(decided)
    shutil.copytree(decided / "models/small", decided / "kept")

    class Decoder(vae.Decoder):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.project = nn.Linear(self.project.in_features, self.project.out_features, bias=False)

    monkeypatch.setattr(vae, "Decoder", Decoder)
    with pytest.raises(Exception, match="does not fit the vae"):
        load_model(decided / "kept")
    told = retrained()
    assert judged(told, before)
    winner = told["candidate" if told["outcome"] == "promote" else "champion"]["weights"]
    assert registry.find(CHAMPION).tags["genmodel.weights"] == winner


def test_a_champion_whose_family_is_gone(registry: Registry, decided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = decision(decided)
    monkeypatch.delitem(FAMILIES, "vae")
    monkeypatch.setitem(sys.modules, "genmodel.models.vae", None)  # type: ignore[arg-type]  # as without its file
    change(decided, "family: vae", "family: dcgan")
    told = retrained("learning_rate: 0.01", "generator_learning_rate: 0.01")
    assert judged(told, before)


def test_a_package_of_another_torch_and_those_of_before_spaces_and_priors_were_told(
    registry: Registry, package: Path, decided: Path
) -> None:
    before = decision(decided)
    path = package / "MLmodel"
    about = yaml.safe_load(path.read_text())
    about["flavors"]["pytorch"]["pytorch_version"] = "2.11.0"
    path.write_text(yaml.safe_dump(about))
    registry.tag("1", {"genmodel.package": digest(package)})
    assert judged(retrained(), before)

    registry.set_alias(CHAMPION, "1")
    about["flavors"]["python_function"]["config"] = {"latent_dim": 4, "prior": "normal", "image_size": 8}
    path.write_text(yaml.safe_dump(about))
    registry.tag("1", {"genmodel.package": digest(package), "genmodel.family": "renamed since"})
    assert judged(asked_again(), before)

    registry.set_alias(CHAMPION, "1")
    del about["flavors"]["python_function"]
    inputs = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 4]}}]
    about["signature"]["inputs"] = json.dumps(inputs)
    path.write_text(yaml.safe_dump(about))
    (package / "served.py").unlink()
    registry.tag("1", {"genmodel.package": None, "genmodel.family": "vae"})
    told = asked_again()
    assert told["champion"]["weights"] == before["candidate"]["weights"] and judged(told, before)

    registry.set_alias(CHAMPION, "1")
    registry.tag("1", {"genmodel.family": "of another house"})
    told = asked_again()
    assert told["outcome"] == "inconclusive" and "does not say what its codes are drawn from" in told["reasons"][0]


def drawn(registry: Registry) -> np.ndarray:
    """What the champion's package answers to a request."""
    with registry.package(registry.find(CHAMPION)) as fetched:
        return np.asarray(load(fetched, registry.tracker.settings).predict({"n": 5, "seed": 3}))


def test_a_package_from_before_images_had_channels(registry: Registry, package: Path, decided: Path) -> None:
    """It loads, generates and is judged; its networks and its report are read."""
    before, images, beside = decision(decided), drawn(registry), package / "extra_files"
    about = yaml.safe_load((package / "MLmodel").read_text())
    assert about["flavors"]["python_function"]["config"].pop("channels") == 3
    (package / "MLmodel").write_text(yaml.safe_dump(about))
    described, report = read_config(beside), json.loads((beside / "report.json").read_text())
    assert (described.pop("channels"), report["conditions"].pop("channels")) == (3, 3)
    durable.write_sealed(beside / "config.json", described)
    (beside / "report.json").write_text(json.dumps(report))
    registry.tag("1", {"genmodel.package": digest(package)})

    told = registry.try_out(registry.find(CHAMPION))
    assert told == "It loads from the registry and generates 8 px images."
    assert np.array_equal(drawn(registry), images)
    model, _ = load_model(beside)
    assert np.array_equal(sample(model, 5, 3), images)
    assert Report.from_dict(report, "it").conditions.shape == "8 px"
    assert judged(retrained(), before)


def flip(package: Path) -> None:
    graph = package / "data/model.pt2"
    content = bytearray(graph.read_bytes())
    content[len(content) // 2] ^= 1
    graph.write_bytes(content)


def lose_a_file(package: Path) -> None:
    (package / "data/model.pt2").unlink()


def lose_all(package: Path) -> None:
    shutil.rmtree(package)


def tamper(package: Path) -> None:
    (package / "served.py").write_text("from pathlib import Path\nPath('ran').touch()\n")


def cut_and_seal(package: Path) -> None:
    """Registered as it is, so that its digest fits."""
    graph = package / "data/model.pt2"
    graph.write_bytes(graph.read_bytes()[:1000])


HARMS = {
    flip: "is damaged: its package is not the one that was registered",
    lose_a_file: "is damaged: its package is not the one that was registered",
    tamper: "is damaged: its package is not the one that was registered",
    lose_all: "is gone: MLflow no longer has its files",
    cut_and_seal: "does not load: ",
}


@pytest.mark.fault("damaged model in the registry")
def test_a_champion_whose_package_is_damaged_stays_and_the_decision_says_what_to_do(
    registry: Registry, package: Path, decided: Path, tmp_path: Path
) -> None:
    whole = shutil.copytree(package, tmp_path / "whole")
    sealed = registry.find("1").tags["genmodel.package"]
    ask: Callable[[], dict[str, Any]] = retrained
    for harm, why in HARMS.items():
        harm(package)
        if harm is cut_and_seal:
            registry.tag("1", {"genmodel.package": digest(package)})
        told = ask()
        ask = asked_again
        (reason,) = told["reasons"]
        assert told["outcome"] == "inconclusive" and why in reason, reason
        assert "version 1, cannot be judged and stays" in reason and "python -m flows.registry retire" in reason
        assert str(tmp_path) not in reason and not (decided / "ran").exists()
        assert registry.find(CHAMPION).number == "1"
        shutil.rmtree(package, ignore_errors=True)
        shutil.copytree(whole, package)
    registry.tag("1", {"genmodel.package": sealed})
    assert "cannot be judged" not in asked_again()["reasons"][0], "put back, it is weighed again"


def test_a_champion_that_somebody_made_by_hand(registry: Registry, decided: Path, settings: Settings) -> None:
    """It has no tags of ours, and its files are no package."""
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    client.create_model_version("genmodel", (decided / "reports").as_uri())
    newest = max(client.search_model_versions("name = 'genmodel'"), key=lambda version: int(version.version))
    registry.set_alias(CHAMPION, str(newest.version))
    told = retrained()
    assert told["outcome"] == "inconclusive" and "cannot be judged and stays" in told["reasons"][0]
    assert registry.find(CHAMPION).number == str(newest.version)
