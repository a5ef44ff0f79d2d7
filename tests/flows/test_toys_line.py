"""Each toy family goes the whole way of the line, nothing else changed: trained, judged, registered, served."""

from pathlib import Path

import numpy as np
import pytest

from flows.registry.registry import Registry
from flows.settings import Settings
from flows.tracking import Tracker, load
from flows.versioning.current import read_report
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from tests.flows.small_project import run
from tests.toys import layers

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("toys")]
PARAMS = """
models:
  toy: {family: NAME, image_size: 8, network: {}, training: {images: 3200, batch_size: 16, threads: 1, labelled: 9}}
evaluation: {samples: 32, extractor: pixels, image_size: 8, importance_samples: 2}
gate: {intervals: false, min_precision: 0, min_recall: 0, max_copied: 1}
"""
TELLS = {  # the figures that its abilities add to those of samples
    "labels": {"accuracy", "psnr", "ssim"},
    "categories": set(),
    "begun": {"bits_per_dim"},
    "autoregressive": {"bits_per_dim_exact"},
    "scheduled": set(),
    "three": {"psnr", "ssim"},
    "conditional": set(),
    "unused": set(),
}


def test_no_toy_is_left_out() -> None:
    assert TELLS.keys() == {path.stem for path in Path(layers.__file__).parent.glob("*.py")} - {"__init__", "layers"}


SETTINGS = {  # of families with settings that no toy has: noise of several parts, a prior with classes
    "iaf_vae": "base_channels: 8, latent_dim: 2, blocks: 1, levels: 1, conditional: true, likelihood: mixture",
    "vae": "base_channels: 8, latent_dim: 4, residual_blocks: 1, conditional: true, likelihood: mixture",
}
LATENT = {"bits_per_dim", "bits_per_dim_iw", "psnr", "ssim"}


@pytest.mark.parametrize("name", [*TELLS, *SETTINGS])
def test_a_toy_is_trained_judged_registered_and_served(name: str, project: Path, settings: Settings) -> None:
    params = PARAMS.replace("NAME", name).replace("network: {}", f"network: {{{SETTINGS.get(name, '')}}}")
    (project / "params.yaml").write_text(params)
    run("reference", "train toy", "evaluate toy", "compare", "register")
    report = read_report("toy")
    known = {figure for figure, value in report.figures.items() if value is not None}
    able = {"accuracy", "psnr", "ssim", "bits_per_dim", "bits_per_dim_iw", "bits_per_dim_exact"}
    assert known & able == TELLS.get(name, LATENT) and {"fd_pixels", "precision"} <= known
    model, about = load_model(project / "models/toy")
    registry = Registry(Tracker(settings))
    version = registry.find("1")
    assert version.tags["genmodel.family"] == name
    with registry.package(version) as package:
        served = load(package, settings).predict({"n": 5, "seed": 3})
    expected = sample(model, 70, 3, about["class_counts"]).numpy()[:5]
    assert np.array_equal(served, expected) and len(np.unique(served)) > 20
