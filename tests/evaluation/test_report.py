import json
import math
from pathlib import Path

import pytest
import torch

from genmodel.config import EvaluationConfig
from genmodel.data.block import Block
from genmodel.errors import IncomparableError
from genmodel.evaluation.features import extract
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.evaluation.report import Report, evaluate
from genmodel.evaluation.statistics import frechet_distance, inception_score, kernel_distance, moments
from genmodel.saved import load_model, sample

CONFIG = EvaluationConfig(samples=40, seed=5, classifier_images=640)


@pytest.fixture(scope="module")
def reference(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(block, 16, CONFIG, tmp_path_factory.mktemp("made") / "reference")


@pytest.fixture(scope="module")
def report(block: Block, reference: Reference, vae_folder: Path) -> Report:
    return evaluate(vae_folder, block, reference, CONFIG)[0]


def test_figures_are_those_of_the_samples(report: Report, reference: Reference, vae_folder: Path) -> None:
    model, _ = load_model(vae_folder)
    values, logits = extract(reference.extractor(CONFIG), [sample(model, 40, seed=5)])
    assert logits is not None
    assert report.figures["fd_classifier"] == pytest.approx(frechet_distance(reference.moments, moments(values)))
    assert report.figures["kd_classifier"] == pytest.approx(kernel_distance(reference.features, values))
    assert report.figures["is_classifier"] == pytest.approx(inception_score(logits))


def test_bits_per_dim_is_the_mean_over_the_val_split(report: Report, block: Block, vae_folder: Path) -> None:
    model, _ = load_model(vae_folder)
    images = torch.from_numpy(block.gather(16, block.rows("val")))
    bits = model.bits_per_dim(images, torch.Generator().manual_seed(5))["bits_per_dim"]
    assert len(images) < 40
    assert report.figures["bits_per_dim"] == pytest.approx(float(bits.double().mean()), rel=1e-6)


def test_conditions_are_all_that_figures_depend_on(report: Report, block: Block, reference: Reference) -> None:
    fingerprint = reference.about["extractor"]["fingerprint"]
    assert report.as_dict()["conditions"] == {
        "extractor": {"name": "classifier", "fingerprint": fingerprint},
        "block": block.digest,
        "image_size": 16,
        "resize": block.resize,
        "n_real": 40,
        "n_samples": 40,
        "seed": 5,
    }


def test_a_report_is_the_same_every_time_and_holds_no_times(
    report: Report, block: Block, reference: Reference, vae_folder: Path
) -> None:
    again, timing = evaluate(vae_folder, block, reference, CONFIG)
    assert json.dumps(again.as_dict()) == json.dumps(report.as_dict())
    assert set(report.as_dict()) == {"name", "family", "fingerprint", "weights", "conditions", "figures"}
    assert (report.name, report.family) == ("small-vae", "vae")
    assert timing.seconds > 0 and timing.sampling_images_per_second > 0 and timing.features_images_per_second > 0


def test_what_does_not_apply_is_null(block: Block, gan_folder: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(samples=16, extractor="pixels")
    report, _ = evaluate(gan_folder, block, make_reference(block, 16, config, tmp_path / "reference"), config)
    assert set(report.figures) == {"fd_pixels", "kd_pixels", "bits_per_dim"}  # no classes, so no Inception score
    assert report.figures["bits_per_dim"] is None


def test_figures_are_rounded_and_json_can_hold_them_all(report: Report) -> None:
    figures = {"a": 1.23456789, "b": math.nan, "c": None, "d": math.inf, "e": 123456789.0}
    odd = Report(name="m", family="vae", fingerprint="f", weights="w", conditions={}, figures=figures)
    written = odd.as_dict()["figures"]
    assert written == {"a": 1.23457, "b": "nan", "c": None, "d": "inf", "e": 123457000.0}
    json.dumps(written, allow_nan=False)


def test_a_model_of_another_size_is_refused(
    block: Block, reference: Reference, vae_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Reference(reference.path, {**reference.about, "image_size": 8}, reference.moments, reference.features)
    monkeypatch.setattr(block, "sizes", [8, 16])
    with pytest.raises(IncomparableError, match=r"makes images of 16 px, but .* was made at 8 px"):
        evaluate(vae_folder, block, other, CONFIG)


def test_another_block_is_refused(single_class_block: Block, reference: Reference, vae_folder: Path) -> None:
    with pytest.raises(IncomparableError, match="was made for block"):
        evaluate(vae_folder, single_class_block, reference, CONFIG)
