"""Images of every shape, all the way: trained, resumed, sampled, exported, judged, drawn, packaged and served."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx.reference
import pytest
import torch
from PIL import Image

from flows import stages
from flows.registry.packaging import exported, package, try_out
from flows.registry.registry import Registry
from flows.settings import Settings
from flows.tracking import Tracker, load
from genmodel.data.block import Block
from genmodel.errors import ConfigError, IncomparableError
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.extractors.choice import EXTRACTORS
from genmodel.evaluation.reference import make_reference
from genmodel.evaluation.report import Report
from genmodel.params import run_config
from genmodel.pixels import to_rgb
from genmodel.sampling.draw import sample
from genmodel.sampling.export import export_onnx
from genmodel.sampling.load import load_model
from genmodel.settings.config import EvaluationConfig
from genmodel.showing import display
from genmodel.showing.pictures import save_samples
from genmodel.sizes import Size, shape_text
from genmodel.training.identify import identify
from tests.blocks import write_block

SHAPES = {"28 grey": ("28", 1), "64x32 RGB": ("64x32", 3), "32x64 RGBA": ("32x64", 4)}
NETWORK = {"base_channels": 4, "latent_dim": 4}
FAST = {"dcgan": {"generator_learning_rate": 0.01}, "vae": {"learning_rate": 0.01}}


@pytest.fixture(scope="module", params=SHAPES)
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Block:
    """96 images of two classes, and 8 of none."""
    size, channels = SHAPES[request.param]
    return write_block(tmp_path_factory.mktemp("shape") / "data", size, channels, per_class=48, unlabelled=8)


def trained(family: str, block: Block, folder: Path, images: int = 128) -> Path:
    """A model in `folder`/model."""
    training = {"images": images, "batch_size": 8, "log_every": 64, "ema_half_life": 0}
    training["checkpoint_every"] = 32
    values = {
        "family": family,
        "image_size": block.sizes[0].plain(),
        "network": NETWORK | FAST[family],
        "training": training,
    }
    identity = identify("small", run_config(values, "test"), block)
    display.train(identity, block, folder / "model", folder / "runs")
    return folder / "model"


@pytest.mark.slow
@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_a_shape_goes_all_the_way(family: str, drawn: Block, tmp_path: Path, settings: Settings) -> None:
    size, shape = drawn.sizes[0], (*drawn.sizes[0], drawn.channels)
    folder = trained(family, drawn, tmp_path)
    model, about = load_model(folder)
    assert (about["config"]["image_size"], about["channels"]) == (size.plain(), drawn.channels)
    images = sample(model, 5, seed=3)
    assert images.shape == (5, *shape) and len(images.unique()) > 5

    grid = next(iter((folder / "samples").glob("*.png")))
    for path in (grid, tmp_path / "grid.png"):
        if path != grid:
            save_samples(folder, path, 6, 0, None, "cpu")
        with Image.open(path) as picture:
            assert picture.mode == ("L" if drawn.channels == 1 else "RGB")
    zoom = max(1, 64 // max(size))
    with Image.open(grid) as picture:
        assert picture.size == tuple(8 * (zoom * side + 2) + 2 for side in (size.width, size.height))
    with Image.open(folder / "timeline.png") as picture:
        assert picture.height % (zoom * size.height + 2) == 0

    config = EvaluationConfig(image_size=size, samples=72, classifier_images=640)
    reference = make_reference(drawn, size, config, tmp_path / "reference")
    report, _ = evaluate(folder, drawn, reference, config, picture=tmp_path / "neighbours.png")
    assert (report.conditions.image_size, report.conditions.channels) == (size, drawn.channels)
    assert Report.from_dict(json.loads(json.dumps(report.as_dict())), "it") == report
    assert Image.open(tmp_path / "neighbours.png").width > 8 * size.width

    export_onnx(model, tmp_path / "model.onnx")
    session = onnx.reference.ReferenceEvaluator(str(tmp_path / "model.onnx"))
    codes = torch.from_numpy(model.space.draw(np.arange(3, dtype=np.uint64)))
    (found,) = session.run(None, {"codes": codes.numpy()})
    assert found.shape == (3, *shape) and found.dtype == np.uint8

    package(tmp_path / "package", model, "small", {}, settings, [])
    served = load(tmp_path / "package", settings).predict({"n": 5, "seed": 3})
    assert np.array_equal(served, images.numpy())
    told = try_out(tmp_path / "package", "small", settings)
    assert told == f"It loads from the registry and generates {shape_text(size, drawn.channels)} images."
    graph = exported(tmp_path / "package", family, "small", settings)
    assert (graph.image_size, graph.channels) == (size, drawn.channels)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_a_resumed_training_ends_as_one_that_was_never_stopped(
    family: str, drawn: Block, tmp_path: Path, killed_at: Callable[..., int]
) -> None:
    whole = trained(family, drawn, tmp_path / "whole")
    killed_at(60, True, lambda: trained(family, drawn, tmp_path / "cut"))
    assert list((tmp_path / "cut/runs").glob("*/checkpoints/*.json")) and not (tmp_path / "cut/model").exists()
    cut = trained(family, drawn, tmp_path / "cut")
    for name in ("weights.safetensors", "timeline.png", "replay.gif"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_every_extractor_that_is_offline_takes_every_shape(drawn: Block) -> None:
    images = torch.from_numpy(drawn.gather(drawn.sizes[0], np.arange(4)))
    for name in ("classifier", "pixels"):
        config = EvaluationConfig(image_size=drawn.sizes[0], extractor=name, classifier_images=64)
        extractor = EXTRACTORS[name].make(drawn, drawn.sizes[0], config, "cpu")
        values, _ = extractor(images)
        assert values.shape == (4, extractor.dim) and values.isfinite().all() and not torch.equal(values[0], values[3])


def test_three_channels_are_made_of_one_and_of_four() -> None:
    grey = torch.tensor([[[[7], [200]]]], dtype=torch.uint8)
    assert to_rgb(grey).tolist() == [[[[7, 7, 7], [200, 200, 200]]]]
    colours = torch.tensor([[[[10, 20, 30, 255], [10, 20, 30, 0], [0, 100, 255, 128]]]], dtype=torch.uint8)
    assert to_rgb(colours).tolist() == [[[[10, 20, 30], [255, 255, 255], [127, 177, 255]]]]


def test_images_of_other_channels_or_shape_are_never_compared(tmp_path: Path) -> None:
    grey, wide = write_block(tmp_path / "grey", "16x8", 1), write_block(tmp_path / "wide", "16x8", 3)
    config = EvaluationConfig(image_size=Size.of("16x8"), samples=20, extractor="pixels")
    model = trained("vae", grey, tmp_path, images=16)
    reference = make_reference(wide, wide.sizes[0], config, tmp_path / "reference")
    with pytest.raises(IncomparableError, match=r"makes images of 16x8 px grey, but .* was made at 16x8 px: make"):
        evaluate(model, wide, reference, config)
    with pytest.raises(IncomparableError, match="made for"):
        reference.check(grey, config)
    upright = write_block(tmp_path / "upright", "8x16", 3)
    other = make_reference(
        upright,
        upright.sizes[0],
        EvaluationConfig(image_size=Size(16, 8), samples=20, extractor="pixels"),
        tmp_path / "other",
    )
    model = trained("vae", wide, tmp_path / "again", images=16)
    with pytest.raises(IncomparableError, match=r"makes images of 16x8 px, but .* was made at 8x16 px: make"):
        evaluate(model, upright, other, config)


def test_a_classifier_learns_from_labelled_images_alone(tmp_path: Path) -> None:
    size = Size.of(16)
    mixed = write_block(tmp_path / "mixed", 16, 1, per_class=40, unlabelled=200)
    config = EvaluationConfig(image_size=size, classifier_images=2000)
    classifier = EXTRACTORS["classifier"].make(mixed, size, config, "cpu")
    assert classifier.about()["val_accuracy"] > 0.9


def test_a_val_split_without_labels_says_nothing_of_the_classifier(tmp_path: Path) -> None:
    size = Size.of(16)
    block = write_block(tmp_path / "data", 16, 1, per_class=12)
    block.labels = np.where(block.splits == 1, -1, block.labels)
    config = EvaluationConfig(image_size=size, classifier_images=64, samples=24)
    made = make_reference(block, size, config, tmp_path / "reference")
    assert made.about["extractor"]["val_accuracy"] is None
    assert np.isnan(made.extractor(config).val_accuracy)  # type: ignore[arg-type]


def test_a_size_that_is_none_is_told(tmp_path: Path) -> None:
    for wrong in ("128x", "big", "4x16", True, [64], "64x2000"):
        with pytest.raises(ConfigError, match="image_size: "):
            run_config({"family": "vae", "image_size": wrong}, "test")
    assert run_config({"family": "vae", "image_size": "64x64"}, "test").as_dict()["image_size"] == 64
    assert run_config({"family": "vae", "image_size": "128x64"}, "test").as_dict()["image_size"] == "128x64"


PARAMS = """
models:
  small: {family: vae, image_size: 16x8, network: {latent_dim: 4, base_channels: 4, learning_rate: 0.01}, training: T}
evaluation: {samples: 18, extractor: pixels, image_size: 16x8}
gate: {intervals: false, min_precision: 0, min_recall: 0, max_copied: 1}
""".replace("training: T", "training: {images: 2400}")


@pytest.mark.slow
def test_a_champion_of_other_channels_is_told_with_what_to_do(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages one after the other, on rectangles."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.dvc").write_text("outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n")
    (tmp_path / "params.yaml").write_text(PARAMS)
    for channels in (3, 1):
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        write_block(tmp_path / "data", "16x8", channels, per_class=48)
        for line in ("reference", "train small", "evaluate small", "compare", "register"):
            assert stages.main(line.split()) == 0
        ranking = (tmp_path / "ranking.csv").read_text().splitlines()
        assert dict(zip(ranking[0].split(","), ranking[1].split(","), strict=True))["image_size"] == "16x8"
        assert ("16x8 px grey" if channels == 1 else "16x8 px (") in (tmp_path / "leaderboard.html").read_text()
    told = json.loads((tmp_path / "decision.json").read_text())
    assert told["outcome"] == "inconclusive"
    (reason,) = told["reasons"]
    assert "cannot be judged and stays: it makes images of 16x8 px, and today's models of 16x8 px grey." in reason
    assert Registry(Tracker(settings)).find("champion").number == "1"
