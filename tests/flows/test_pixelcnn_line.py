"""An autoregressive family goes the whole way of the line: its package holds one pixel and loops over them."""

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

pytestmark = pytest.mark.slow
PARAMS = """
models:
  pixels:
    family: pixelcnn
    image_size: 8
    network: {base_channels: 6, blocks: 1, halvings: 1, components: 3, conditional: true}
    training: {images: 1600, batch_size: 16, threads: 1}
evaluation: {samples: 32, extractor: pixels, image_size: 8}
gate: {intervals: false, min_precision: 0, min_recall: 0, max_copied: 1}
"""


def test_it_is_trained_judged_registered_and_served(project: Path, settings: Settings) -> None:
    (project / "params.yaml").write_text(PARAMS)
    run("reference", "train pixels", "evaluate pixels", "compare", "register")
    bits = read_report("pixels").figures["bits_per_dim_exact"]
    assert bits is not None and 0 < bits < 9
    model, about = load_model(project / "models/pixels")
    registry = Registry(Tracker(settings))
    with registry.package(registry.find("1")) as package:
        served = load(package, settings).predict({"n": 5, "seed": 3})
    expected = sample(model, 70, 3, about["class_counts"]).numpy()[:5]
    assert np.array_equal(served, expected) and len(np.unique(served)) > 20
