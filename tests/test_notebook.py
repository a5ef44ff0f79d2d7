"""What a person has in a notebook after `import genmodel`."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import genmodel
from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.settings.config import EvaluationConfig

TOY = ["image_size=8", "images=64", "batch_size=32", "network.latent_dim=4", "base_channels=4", "log_every=32"]


@pytest.fixture(scope="module")
def trained(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    places = ["--data", str(block.path), "--out", str(folder / "vae"), "--runs", str(folder / "runs")]
    main(["train", "vae", *places, *(word for setting in TOY for word in ("--set", setting))])
    return folder / "vae"


def test_a_model_is_loaded_sampled_and_judged(block: Block, trained: Path, tmp_path: Path) -> None:
    opened = genmodel.open_block(block.path)
    assert len(opened) == 60
    model = genmodel.load_model(trained, device="cpu")
    assert (model.name, model.classes) == ("vae", [])
    images = model.sample(5, seed=3)
    assert images.dtype == np.uint8 and images.shape == (5, 8, 8, 3)
    assert (model.sample(70, seed=3)[:5] == images).all() and (model.sample(5, seed=4) != images).any()
    with pytest.raises(ValueError, match="not conditional"):
        model.sample(1, label="circle")
    config = EvaluationConfig(image_size=8, samples=16, extractor="pixels")
    report = genmodel.evaluate(trained, opened, config, reference=tmp_path / "reference", device="cpu")
    assert report.name == "vae" and report.figures["fd_pixels"] > 0


@pytest.mark.usefixtures("toys")
def test_a_class_is_asked_for_by_name_or_number(built: Callable[..., object]) -> None:
    model = genmodel.Model(
        built("conditional", 8, classes=2),  # type: ignore[arg-type]
        {"name": "toy", "classes": ["circle", "square"], "class_counts": [1, 1]},
    )
    assert model.classes == ["circle", "square"]
    assert (model.sample(3, label="square") == model.sample(3, label=1)).all()
    assert (model.sample(3, label="square") != model.sample(3, label="circle")).any()
    with pytest.raises(ValueError, match=r"no class 'squore'; did you mean 'square'"):
        model.sample(3, label="squore")


@pytest.mark.slow
def test_nothing_is_imported_before_it_is_used() -> None:
    code = (
        "import sys, genmodel; dir(genmodel); print({'torch', 'numpy', 'pandas'} & {*sys.modules}); genmodel.load_model"
    )
    code += "; print('torch' in sys.modules, genmodel.load_model.__doc__[:18])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["set()", "True The finished model"]
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        genmodel.nothing  # noqa: B018
