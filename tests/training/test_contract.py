"""What a family is given by the engine and the trainer: labels, what updates share, knobs, its first images."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from genmodel.data.block import Block
from genmodel.data.reading.loader import Loader
from genmodel.data.reading.order import labelled_places
from genmodel.models.contract import Batch, Noise, Step, build_model
from genmodel.pixels import to_model
from genmodel.settings.schedule import Schedule
from genmodel.showing.display import train
from genmodel.training.step.engine import Engine
from genmodel.training.trainer import Training
from tests.training.cutting import cut_short
from tests.training.step.test_distributed import assert_alike, processes, rows
from tests.training.telling import SETTINGS, Toy, config, identity

Remains = Callable[[Path, Path], dict[str, object]]


def stepped(steps: int, **training: object) -> tuple[Toy, Engine]:
    run = config(**training)
    model = build_model(run, classes=2)
    assert isinstance(model, Toy)
    engine = Engine(model, run.training, 1_000)
    for number in range(steps):
        labels = torch.arange(engine.images_per_step) % 4 - 1  # -1 .. 2
        images = torch.zeros(len(labels), 8, 8, 3, dtype=torch.uint8)
        engine.step(images, labels, number * engine.images_per_step)
    return model, engine


def test_every_loss_is_given_the_labels_of_its_images() -> None:
    model, engine = stepped(1)
    assert engine.images_per_step == 16
    first, second = (torch.arange(16) % 4 - 1).tolist()[:8], (torch.arange(16) % 4 - 1).tolist()[8:]
    assert [told["labels"] for told in model.seen] == [first, first, first, second]
    model, _ = stepped(1, accumulate=2)
    halves = [first[:4], first[4:]]
    assert [told["labels"] for told in model.seen] == [*halves * 3, second[:4], second[4:]]


def test_what_an_update_leaves_is_there_for_the_next_and_gone_with_a_new_batch() -> None:
    model, _ = stepped(2)
    assert [told["kept"] for told in model.seen] == [set(), {"made"}, {"made"}, set()] * 2


def test_of_a_batch_in_parts_each_has_what_it_left_and_only_that_of_the_last_is_held() -> None:
    model, _ = stepped(1, accumulate=4)
    assert [told["kept"] for told in model.seen] == [*[set()] * 4, *[{"made"}] * 8, *[set()] * 4]
    made = []

    def make() -> torch.Tensor:
        made.append(noise.of(model.space, 2))
        return made[-1]

    for holds in (True, False):
        noise = Noise(torch.Generator().manual_seed(3))
        step = Step(Batch(torch.zeros(2, 3, 8, 8), torch.zeros(2)), noise, holds=holds)
        before, between = step.keep("made", make), noise.of(model.space, 2)
        assert torch.equal(step.take("made", make), before) and len(made) == (1 if holds else 3)
        after = noise.of(model.space, 2)
        assert not torch.equal(between, before) and not torch.equal(after, between), "taking draws nothing"
        if holds:
            expected = after
    assert torch.equal(after, expected)


def test_knobs_follow_their_schedules() -> None:
    _, engine = stepped(1)
    assert engine.means()["score/weight"] == 1
    engine.step(torch.zeros(16, 8, 8, 3, dtype=torch.uint8), torch.zeros(16, dtype=torch.int64), 64)
    assert engine.means()["score/weight"] == pytest.approx(0.36)
    assert {name: float(value) for name, value in engine.knobs.items()} == pytest.approx({"weight": 0.36, "one": 1})


def test_the_average_follows_its_schedule() -> None:
    _, engine = stepped(1, ema_half_life=Schedule(0.0, 1_000.0, over=1_000, shape="linear"))
    before = engine.ema.shadow["scale.weight"].clone()
    engine.step(torch.zeros(16, 8, 8, 3, dtype=torch.uint8), torch.zeros(16, dtype=torch.int64), 984)
    keep = 0.5 ** (16 / 50)  # of 1,000 images no more than a twentieth of those seen
    expected = keep * before + (1 - keep) * engine.model.scale.weight  # type: ignore[operator,union-attr]
    torch.testing.assert_close(engine.ema.shadow["scale.weight"], expected.detach())


def test_a_training_begins_with_its_first_images_and_withholds_labels(block: Block, tmp_path: Path) -> None:
    training = Training(identity(block, **SETTINGS), block, tmp_path, "cpu", fresh=False)
    loader = Loader(block, 8, "train", 0)
    images, _ = loader.first(12)
    own, withheld = loader._labels, np.where(labelled_places(loader._labels, 5, 0), loader._labels, -1)
    model = training.model
    assert isinstance(model, Toy)
    torch.testing.assert_close(model.first[0], to_model(images).mean((0, 2, 3)))
    order = loader._places(0, 16)
    assert model.first[1].tolist() == pytest.approx([withheld[order[:12]].mean()] * 3), "withheld here, too"
    training.step()
    told = [label for each in (model.seen[0], model.seen[3]) for label in each["labels"]]
    assert told == withheld[order].tolist() and told != own[order].tolist() and max(told) >= 0
    training.checkpoints.wait()


@pytest.mark.slow
def test_a_training_that_is_cut_short_ends_the_same(block: Block, remains: Remains, tmp_path: Path) -> None:
    """With labels withheld, both optimisers, schedules of all kinds, and what was learned of the first images."""
    who = identity(block, **SETTINGS)
    whole = remains(train(who, block, tmp_path / "whole", tmp_path / "runs1"), tmp_path / "whole")
    cut_short(who, block, tmp_path / "runs", 112)
    folder = train(who, block, tmp_path / "out", tmp_path / "runs")
    assert remains(folder, tmp_path / "out") == whole
    assert 0 < rows(tmp_path)[-1]["metrics"]["score/withheld"] < 1


TRAIN = """
import sys
from pathlib import Path
from genmodel.data.block import Block
from genmodel.showing.display import Display, train
sys.path.insert(0, sys.argv[3])
from telling import SETTINGS, identity
data, folder = Path(sys.argv[1]), Path(sys.argv[2])
block = Block.open(data)
train(identity(block, accumulate=2, **SETTINGS), block, folder / "model", folder / "runs")
"""


@pytest.mark.slow
def test_two_processes_train_what_one_trains(block: Block, tmp_path: Path) -> None:
    """The same labels withheld, the same first images, rows gathered of both, two optimisers on schedules."""
    both = processes("-c", TRAIN, str(block.path), str(tmp_path / "two"), str(Path(__file__).parent))
    said = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    train(identity(block, accumulate=2, **SETTINGS), block, tmp_path / "one/model", tmp_path / "one/runs")
    assert_alike(tmp_path / "two", tmp_path / "one")
