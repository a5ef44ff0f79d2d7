"""The champion behind `mlflow models serve`: a real server, asked as curl asks."""

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from flows.registry.packaging import SERVED, exported, package, standalone
from flows.settings import Settings
from flows.tracking import load
from genmodel.models.contract import Family
from genmodel.sampling.draw import sample, sample_classes
from genmodel.sampling.requests import codes
from tests.flows.registry.shipping import CLASSES, SMALL, Build


@pytest.fixture(params=["dcgan", "vae", "r3gan", "flow", "categories", "autoregressive", "conditional"])
def model(request: pytest.FixtureRequest, toys: None, built: Build) -> Family:
    return built(request.param, 8, classes=3, **SMALL)


def packed(model: Family, settings: Settings, folder: Path) -> Any:
    """The model's package, loaded as anyone loads it."""
    package(folder, model, "it", CLASSES if model.classes else {}, settings, [])
    return load(folder, settings)


def test_a_seed_draws_what_genmodel_draws(model: Family, settings: Settings, tmp_path: Path) -> None:
    loaded = packed(model, settings, tmp_path / "package")
    counts = list(CLASSES.values())
    expected = sample(model, 300, 5, counts).numpy()  # more than a batch
    assert np.array_equal(loaded.predict({"n": 300, "seed": 5}), expected)
    assert np.array_equal(loaded.predict({"n": 7, "seed": 5}), expected[:7])
    assert np.array_equal(loaded.predict({"n": 7}), sample(model, 7, 0, counts).numpy())
    rows = loaded.predict(pd.DataFrame({"n": [2, 3], "seed": [5, 6]}))
    assert np.array_equal(rows, np.concatenate([sample(model, n, seed, counts) for n, seed in ((2, 5), (3, 6))]))
    asked = codes(model.space, counts[: model.classes], 3, 1).numpy()
    assert np.array_equal(loaded.predict(pd.DataFrame(asked)), loaded.predict(asked.astype(np.float64)))
    source = exported(tmp_path / "package", "", "it", settings)
    assert torch.equal(source.draw(source.codes(70, 5))[0], torch.from_numpy(expected[:70]))
    loaded_example = json.loads((tmp_path / "package/input_example.json").read_text())
    assert len(loaded.predict(loaded_example)) == 16
    assert loaded.model_config["space"] == model.space.as_dict() and loaded.model_config["image_size"] == 8


def test_a_graph_that_takes_one_number_of_images_alone_is_served_all_the_same(
    toys: None, built: Build, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All images are drawn in batches of one size, and by that it is exported."""
    model = built("vae", 8, **SMALL)
    original = model.sample
    monkeypatch.setattr(model, "sample", lambda noise: original(noise.reshape(len(noise), -1)))
    loaded = packed(model, settings, tmp_path / "package")
    assert np.array_equal(loaded.predict({"n": 70, "seed": 3}), sample(model, 70, 3))


@pytest.mark.parametrize(
    ("family", "wrong", "why"),
    [
        ("vae", {"n": 2, "sed": 1}, 'write {"n": 16, "seed": 3}, not n, sed'),
        ("vae", {"seed": 1}, "not seed"),
        ("vae", {"n": 1.5}, "n must be a whole number"),
        ("vae", {"n": True}, "n must be a whole number"),
        ("vae", {"n": [[1]]}, "n must be one value, or a list of them"),
        ("vae", {"n": 1, "seed": -1}, "seed must be a whole number"),
        ("vae", {"n": 1, "seed": 2**64}, "seed must be a whole number"),
        ("vae", {"n": [4096, 1], "seed": [0, 0]}, "1 to 4096 images, not 4097"),
        ("vae", {"n": [1, 2], "seed": 0}, "every n needs a seed"),
        ("vae", np.full((2, 4), np.nan), "codes must be finite"),
        ("vae", "images, please", "codes are numbers"),
        ("vae", {"n": 1, "class": "circle"}, "class: it is not conditional: leave out the class"),
        ("conditional", {"n": 1, "klass": "circle"}, 'write {"n": 16, "seed": 3, "class": "0"}, not n, klass'),
        ("conditional", {"n": 1, "class": "squares"}, "class: it has no class 'squares'; did you mean 'square'?"),
        ("conditional", {"n": 1, "class": 3}, "class: it has no class '3': its classes are numbered 0 to 2"),
        ("conditional", {"n": [1, 2], "seed": [1, 1], "class": ["circle"]}, "and a class where one is asked for"),
        ("conditional", [[0, 0, 0, 0, 1, 3]], "the class, the last number of a code, is a whole number from 0 to 2"),
        ("conditional", [[0, 0, 0, 0, 1, 0.5]], "the class, the last number of a code, is a whole number from 0 to 2"),
        ("conditional", [[0, 0, 0, 0, -1, 0]], "a choice among the codes is a whole number from 0 to 2"),
    ],
)  # fmt: skip
def test_what_is_wrong_about_a_request_is_said(family: str, wrong: Any, why: str, loaded: Callable[[str], Any]) -> None:
    with pytest.raises(Exception, match=r".") as caught:
        loaded(family).predict(wrong)
    assert why in str(caught.value)


@pytest.fixture
def loaded(toys: None, built: Build, settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """loaded(family) -> its package, made once for this file."""

    def get(family: str) -> Any:
        if family not in _LOADED:
            _LOADED[family] = packed(built(family, 8, classes=3, **SMALL), settings, tmp_path_factory.mktemp("p") / "p")
        return _LOADED[family]

    return get


_LOADED: dict[str, Any] = {}


def test_a_class_by_name_by_number_and_in_a_table(toys: None, loaded: Callable[[str], Any], built: Build) -> None:
    """A class that is called 0 is meant by 0, though it is number 2; None and a gap in a table ask for none."""
    package, model = loaded("conditional"), built("conditional", 8, classes=3)
    third = sample_classes(model, 4, 5, [2]).numpy()
    anything = sample(model, 4, 5, list(CLASSES.values())).numpy()
    for asked in ("0", 0, "2", 2, np.int64(2), 2.0):
        assert np.array_equal(package.predict({"n": 4, "seed": 5, "class": asked}), third), asked
    assert np.array_equal(package.predict({"n": 4, "seed": 5, "class": None}), anything)
    table = pd.DataFrame({"n": [4, 4], "seed": [5, 5], "class": [2, None]})
    assert np.array_equal(package.predict(table), np.concatenate([third, anything]))
    table["class"] = ["circle", "2"]
    assert np.array_equal(package.predict(table), np.concatenate([sample_classes(model, 4, 5, [0]), third]))
    labels = codes(model.space, list(CLASSES.values()), 600, 5)[:, -1].long().bincount(minlength=3)
    assert np.allclose(labels / 600, [1 / 2, 1 / 6, 1 / 3], atol=0.08)


WITHOUT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("genmodel", "flows"):
            raise ImportError(name + " is not on a server")

sys.meta_path.insert(0, Refuse())
import mlflow.pyfunc, numpy as np
np.save(sys.argv[2], mlflow.pyfunc.load_model(sys.argv[1]).predict({"n": 70, "seed": 3}))
"""


def test_a_package_needs_nothing_of_genmodel(model: Family, settings: Settings, tmp_path: Path) -> None:
    packed(model, settings, tmp_path / "package")
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "package"), str(tmp_path / "images.npy")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert np.array_equal(np.load(tmp_path / "images.npy"), sample(model, 70, 3, list(CLASSES.values())))


def test_no_name_of_the_shipped_files_hides_another() -> None:
    """Three files become one: a helper that two of them define would be the later one for both."""
    text = standalone(SERVED)
    defined = [node.name for node in ast.parse(text).body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert len(defined) == len(set(defined)) > 10
    assert "genmodel" not in {name.partition(".")[0] for name in imported(text)} | {""}


def imported(text: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(text)))
    plain = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    return plain | {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
