import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genmodel.data.block import Block
from genmodel.errors import EvaluationError, IncomparableError
from genmodel.evaluation import table
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.extractors.features import extract
from genmodel.evaluation.figures.bootstrap import Estimate
from genmodel.evaluation.figures.distances import frechet_distance, kernel_distance
from genmodel.evaluation.figures.inception_score import inception_score
from genmodel.evaluation.figures.manifold import manifold
from genmodel.evaluation.figures.pairwise import between, nearest, within
from genmodel.evaluation.figures.similarity import ms_ssim, psnr, ssim
from genmodel.evaluation.judge import _recipe, _told
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.evaluation.report import Report, Timing
from genmodel.models.abilities import Bounds, Reconstructs, Weighted
from genmodel.params import run_config
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

ZEROS = torch.zeros(4, dtype=torch.float64)
CONFIG = EvaluationConfig(samples=40, seed=5, classifier_images=640)


@pytest.fixture(scope="module")
def reference(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    return make_reference(block, Size(16, 16), CONFIG, tmp_path_factory.mktemp("made") / "reference")


@pytest.fixture(scope="module")
def report(block: Block, reference: Reference, vae_folder: Path) -> Report:
    return evaluate(vae_folder, block, reference, CONFIG)[0]


def test_figures_are_those_of_the_samples(report: Report, reference: Reference, vae_folder: Path) -> None:
    model, _ = load_model(vae_folder)
    values, logits = extract(reference.extractor(CONFIG), [sample(model, 40, seed=5)])
    assert logits is not None
    real = reference.real
    own = within(values)
    across = between(real.features, real.neighbours, values, own.neighbours)
    expected = {
        "fd_classifier": frechet_distance(real.mean, real.root, values),
        "kd_classifier": kernel_distance(float(real.kernel), across.kernel, own.kernel),
        "is_classifier": inception_score(logits),
        **manifold(across)._asdict(),
    }
    for name, estimate in expected.items():
        assert report.figures[name] == pytest.approx(estimate.value, rel=1e-5), name
    pairs = sample(model, 40, seed=5).permute(0, 3, 1, 2)
    assert report.figures["pair_ms_ssim"] == pytest.approx(float(ms_ssim(pairs[::2], pairs[1::2]).mean()), rel=1e-5)


def test_each_figure_lies_in_its_interval(report: Report) -> None:
    applied = {name for name, value in report.figures.items() if value is not None}
    assert report.intervals.keys() == applied - {"compression"}, "which is exact"
    assert {"precision", "recall", "density", "coverage", "wavelet_distance"} <= report.intervals.keys()
    for name, (low, high) in report.intervals.items():
        value = report.figures[name]
        assert value is not None and low <= value <= high, name


def test_compression_is_the_bytes_of_all_images_over_those_of_the_weights(
    report: Report, block: Block, vae_folder: Path
) -> None:
    weights = (vae_folder / "weights.safetensors").stat().st_size
    assert report.figures["compression"] == pytest.approx(len(block) * 16 * 16 * 3 / weights, rel=1e-5)


def labels_of(block: Block) -> torch.Tensor:
    return torch.as_tensor(block.labels[block.rows("val")])


def test_bits_per_dim_is_the_mean_over_the_val_split(report: Report, block: Block, vae_folder: Path) -> None:
    model, _ = load_model(vae_folder)
    images = torch.from_numpy(block.gather(16, block.rows("val")))
    assert isinstance(model, Bounds)
    bits = model.bound(images, labels_of(block), torch.Generator().manual_seed(5))
    assert len(images) < 40
    assert report.figures["bits_per_dim"] == pytest.approx(float(bits.double().mean()), rel=1e-5)


def test_the_weighted_bound_and_the_reconstructions_are_of_the_same_images(
    report: Report, block: Block, vae_folder: Path
) -> None:
    model, _ = load_model(vae_folder)
    images = torch.from_numpy(block.gather(16, block.rows("val")))
    labels = labels_of(block)
    assert isinstance(model, Weighted) and isinstance(model, Reconstructs)
    weighted = model.weighted_bound(images, labels, torch.Generator().manual_seed(5), CONFIG.importance_samples)
    assert report.figures["bits_per_dim_iw"] == pytest.approx(float(weighted.mean()), rel=1e-5)
    bound = report.figures["bits_per_dim"]
    assert bound is not None and float(weighted.mean()) < bound
    levels, rebuilt = images.permute(0, 3, 1, 2), (model.reconstruct(images, labels) + 1) * 127.5
    assert report.figures["psnr"] == pytest.approx(float(psnr(levels, rebuilt).mean()), rel=1e-5)
    assert report.figures["ssim"] == pytest.approx(float(ssim(levels, rebuilt).mean()), rel=1e-5)


def test_conditions_are_all_that_figures_depend_on(report: Report, block: Block, reference: Reference) -> None:
    fingerprint = reference.about["extractor"]["fingerprint"]
    assert report.as_dict()["conditions"] == {
        "extractor": {
            "name": "classifier",
            "fingerprint": fingerprint,
            "accuracy": reference.about["extractor"]["val_accuracy"],
            "chance": reference.about["extractor"]["chance"],
            "classes": 3,
        },
        "block": block.digest,
        "image_size": 16,
        "resize": block.resize,
        "split": "train",
        "n_real": 40,
        "n_held_out": len(block.rows("val")),
        "n_samples": 40,
        "importance_samples": 64,
        "seed": 5,
        "channels": 3,
    }


def test_a_report_is_the_same_every_time_and_holds_no_times(
    report: Report, block: Block, reference: Reference, vae_folder: Path
) -> None:
    again, timing = evaluate(vae_folder, block, reference, CONFIG)
    assert json.dumps(again.as_dict()) == json.dumps(report.as_dict())
    assert set(report.as_dict()) == {
        "name", "family", "fingerprint", "weights", "recipe", "seed", "code", "parameters", "size",
        "conditions", "figures", "intervals", "memorisation", "health",
    }  # fmt: skip
    assert (report.name, report.family) == ("small-vae", "vae")
    model, _ = load_model(vae_folder)
    assert report.parameters == sum(weight.numel() for weight in model.parameters()) > 0
    assert report.size == len((vae_folder / "weights.safetensors").read_bytes()) > 4 * report.parameters
    assert all(value > 0 for value in timing.as_dict().values()) and len(timing.as_dict()) == 3


def test_the_picture_shows_samples_beside_the_nearest_training_images(
    block: Block, reference: Reference, vae_folder: Path, tmp_path: Path
) -> None:
    evaluate(vae_folder, block, reference, CONFIG, picture=tmp_path / "neighbours.png")
    page = np.asarray(Image.open(tmp_path / "neighbours.png").convert("RGB"))
    step = 16 * 4 + 2  # 16 px, drawn 4 times as large
    assert page.shape == (8 * step + 2, 8 * step + 2, 3)
    tiles = [page[2 + r * step :: 4, 2 + c * step :: 4][:16, :16] for r in range(8) for c in range(8)]
    model, _ = load_model(vae_folder)
    samples = sample(model, 40, seed=5)
    rows = reference.rows(block)
    values, _ = extract(reference.extractor(CONFIG), [samples])
    nearby = nearest(values, reference.real.features, 3)[1]
    shown = set()
    for place in range(0, 64, 4):
        (number,) = [n for n in range(40) if np.array_equal(samples[n].numpy(), tiles[place])][:1]
        shown.add(number)
        for tile, row in zip(tiles[place + 1 : place + 4], nearby[number].tolist(), strict=True):
            assert np.array_equal(tile, block.gather(16, rows[[row]])[0])
    assert len(shown) > 8


def test_what_does_not_apply_is_null(block: Block, gan_folder: Path, tmp_path: Path) -> None:
    config = EvaluationConfig(samples=16, extractor="pixels")
    report, _ = evaluate(gan_folder, block, make_reference(block, Size(16, 16), config, tmp_path / "reference"), config)
    assert list(report.figures) == [figure.called("pixels") for figure in table.FIGURES]
    none = {name for name, value in report.figures.items() if value is None}
    abilities = {
        "bits_per_dim",
        "bits_per_dim_iw",
        "bits_per_dim_exact",
        "psnr",
        "ssim",
        "accuracy",
        "cluster_accuracy",
    }
    assert none == abilities | {"is_pixels", "conditional_accuracy"} and not none & report.intervals.keys()


def test_figures_are_rounded_and_json_can_hold_them_all(report: Report) -> None:
    kernel, bits = Estimate(1.23456789, ZEROS), Estimate(math.nan, ZEROS + math.nan)
    found = {"fd_classifier": Estimate(123456789.0, ZEROS), "kd_classifier": kernel, "bits_per_dim": bits}
    written = replace(report, **_told(found, report.conditions)).as_dict()
    assert {name: value for name, value in written["figures"].items() if value is not None} == {
        "fd_classifier": 123457000.0, "kd_classifier": 1.23457, "bits_per_dim": "nan",
    }  # fmt: skip
    assert written["intervals"]["kd_classifier"] == [1.23457, 1.23457]
    assert written["intervals"]["bits_per_dim"] == ["nan", "nan"]
    json.dumps(written, allow_nan=False)


def test_a_report_is_read_back_as_what_it_was(report: Report) -> None:
    told = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert Report.from_dict(told, "r.json") == report
    assert Timing.from_dict({"seconds": 2}, "timing") == Timing(seconds=2.0)


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ({"seed": "0"}, "r.json: seed must be a whole number, not '0'"),
        ({"figures": {"fd_classifier": "much"}}, "r.json: figures.fd_classifier must be a number, not 'much'"),
        ({"figures": {}}, "r.json: figures: fd_classifier is missing"),
        ({"intervals": {"recall": [1.0]}}, "r.json: intervals.recall must be two numbers, not [1.0]"),
        ({"conditions": []}, "r.json: conditions must hold keys and values, not []"),
        ({"memorisation": {"copied": 0.0}}, "r.json: memorisation: visible is missing"),
        ({"likes": 3}, "r.json: unknown key 'likes'"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(report: Report, harm: dict[str, object], says: str) -> None:
    with pytest.raises(EvaluationError) as told:
        Report.from_dict({**report.as_dict(), **harm}, "r.json")
    assert str(told.value) == says


def test_a_model_of_another_size_is_refused(
    block: Block, reference: Reference, vae_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Reference(reference.path, {**reference.about, "image_size": 8}, reference.real)
    monkeypatch.setattr(block, "sizes", [Size(8, 8), Size(16, 16)])
    with pytest.raises(IncomparableError, match=r"makes images of 16 px, but .* was made at 8 px"):
        evaluate(vae_folder, block, other, CONFIG)


def test_another_block_is_refused(single_class_block: Block, reference: Reference, vae_folder: Path) -> None:
    with pytest.raises(IncomparableError, match="was made for block"):
        evaluate(vae_folder, single_class_block, reference, CONFIG)


def test_a_recipe_is_all_settings_but_the_seed() -> None:
    """One that a model was trained without, because there was none then, is at its default."""

    def recipe(gone: str = "", **training: object) -> str:
        made = run_config({"family": "vae", "image_size": 8, "training": training}, "toy")
        told = made.as_dict()
        told["training"].pop(gone, None)
        return _recipe(told, made.network)

    assert recipe(seed=1) == recipe(seed=2) == recipe(gone="warmup")
    assert recipe(warmup=8) != recipe() and recipe(flip=False) != recipe()
