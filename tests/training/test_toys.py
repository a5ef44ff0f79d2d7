"""The contract carries what is coming: each toy is trained, killed, resumed, and does what it is for."""

import json
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.files import tensors
from genmodel.models.abilities import Classifies, Completes
from genmodel.models.contract import build_model
from genmodel.models.noise import image_seeds
from genmodel.params import run_config
from genmodel.pixels import to_uint8
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from genmodel.showing.display import train
from genmodel.training.identify import identify
from genmodel.training.identity import Identity
from genmodel.training.record import _TIMED
from genmodel.training.step.engine import Engine
from genmodel.training.trainer import run_folder
from tests.killing import killed_after
from tests.training.together import train_by_two

pytestmark = pytest.mark.usefixtures("few_pictures")

pytestmark = pytest.mark.usefixtures("toys")
TOYS = ("labels", "categories", "begun", "autoregressive", "scheduled", "three", "unused")
SETTINGS = {"images": 320, "batch_size": 8, "threads": 1, "log_every": 56, "checkpoint_every": 80, "seed": 3}
MORE = {"labels": {"labelled": 4}, "scheduled": {"ema_half_life": {"start": 0, "end": 200, "over": 160}}}


def identity(name: str, block: Block) -> Identity:
    values = {"family": name, "image_size": 8, "training": SETTINGS | MORE.get(name, {})}
    return identify(name, run_config(values, name), block)


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_a_toy_is_killed_and_resumed_to_the_same_bytes(
    name: str, block: Block, remains: Callable[..., dict[str, object]], in_child: Callable[..., int], tmp_path: Path
) -> None:
    who = identity(name, block)
    expected = remains(train(who, block, tmp_path / "whole", tmp_path / "whole-runs"), tmp_path / "whole")
    again = partial(train, who, block, tmp_path / "out", tmp_path / "runs")
    for images in (100, 230):
        assert in_child(partial(killed_after, images, again)) == -signal.SIGKILL
    again()
    assert remains(run_folder(who, tmp_path / "runs"), tmp_path / "out") == expected
    model, about = load_model(tmp_path / "out")
    images = sample(model, 5, seed=1)
    assert images.shape == (5, 8, 8, 3) and len(images.unique()) > 20
    assert torch.equal(images, sample(model, 70, seed=1)[:5])
    assert about["classes"] == ["circle", "square"] and sum(about["class_counts"]) == 58


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line)["metrics"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_of_each_class_as_many_labels_as_asked_for_reach_the_loss(block: Block, tmp_path: Path) -> None:
    seen = metrics(train(identity("labels", block), block, tmp_path / "out", tmp_path / "runs"))
    labelled = sum(row["score/labelled"] for row in seen) / len(seen)
    assert labelled == pytest.approx(8 / 58, rel=0.35)
    model, _ = load_model(tmp_path / "out")
    assert isinstance(model, Classifies)
    images = torch.from_numpy(block.gather(8, block.rows("train")))
    assert model.classify(images).shape == (58, 2)


def test_a_penalty_s_weight_and_the_betas_follow_their_schedules() -> None:
    config = run_config({"family": "scheduled", "image_size": 8, "training": SETTINGS}, "toy")
    engine = Engine(build_model(config, classes=2), config.training, 320)
    found = []
    for number in range(3):
        engine.step(torch.zeros(16, 8, 8, 3, dtype=torch.uint8), torch.zeros(16, dtype=torch.int64), 100 * number)
        (group,) = engine.optimizers["generator"].torch.param_groups
        found.append((group["lr"], group["betas"][1], float(engine.knobs["gamma"])))
    settings = (config.network.lr, config.network.beta2, config.network.gamma)
    assert found == [pytest.approx([each.at(seen) for each in settings], rel=1e-6) for seen in (0, 100, 200)]
    assert len(set(found)) == 3


def test_what_is_known_of_an_image_stays_and_the_rest_is_drawn(block: Block) -> None:
    model = build_model(run_config({"family": "autoregressive", "image_size": 8}, "toy"), classes=2).eval()
    assert isinstance(model, Completes)
    assert not model.space.meaningful
    images, labels = torch.from_numpy(block.gather(8, block.rows("train")[:2])), torch.zeros(2, dtype=torch.int64)
    known = torch.zeros(2, 8, 8, dtype=torch.bool)
    known[:, :4] = True
    one, again, other = (
        to_uint8(model.complete(images, known, torch.from_numpy(model.space.draw(image_seeds(seed, 2))), labels))
        for seed in (0, 0, 1)
    )
    assert torch.equal(one[:, :4], images[:, :4]) and torch.equal(one, again)
    assert not torch.equal(one[:, 4:], other[:, 4:]) and not torch.equal(one[:, 4:], images[:, 4:])


def words(name: str, block: Block, folder: Path) -> list[str]:
    settings = ["image_size=8", "batch_size=8", "threads=1", "accumulate=2", "images=160", "log_every=32"]
    settings += ["labelled=4"] if name == "labels" else []
    places = ["--data", str(block.path), "--out", str(folder / "model"), "--runs", str(folder / "runs")]
    return ["train", name, *places, "--device", "cpu", *(word for each in settings for word in ("--set", each))]


@pytest.fixture(scope="module")
def by_two(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each toy, trained by two processes."""
    folder = tmp_path_factory.mktemp("two")
    train_by_two(*(words(name, block, folder / name) for name in TOYS))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", TOYS)
def test_two_processes_train_what_one_trains(name: str, by_two: Path, block: Block, tmp_path: Path) -> None:
    """Labels, categories, the first images, schedules, rows of all processes, gradients that some or all of them lack:
    as one process has them."""
    main(words(name, block, tmp_path))
    assert_alike(by_two / name, tmp_path)


def assert_alike(folder: Path, whole: Path) -> None:
    """Rows and averaged weights within what sums in another order make of them."""
    (mine,), (theirs,) = folder.glob("runs/*"), whole.glob("runs/*")
    for row, other in zip(metrics(mine), metrics(theirs), strict=True):
        assert {key: value for key, value in row.items() if "/" in key and not key.startswith(_TIMED)} == pytest.approx(
            {key: value for key, value in other.items() if not key.startswith(_TIMED)}, rel=1e-4
        )
    weights, _ = tensors.load(folder / "model/weights.safetensors")
    expected, _ = tensors.load(whole / "model/weights.safetensors")
    for name, value in weights.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)
