"""The training images beside a sample: the nearest ones, with their classes, of the training split alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genmodel.errors import BlockError
from genmodel.exploring.nearest import TrainingImages
from genmodel.sizes import Size
from tests.blocks import CLASSES, write_block

SIZE = Size(8, 8)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_nearest_are_found_among_all_training_images(tmp_path: Path, channels: int) -> None:
    block = write_block(tmp_path / "data", 8, channels, unlabelled=4)
    rows = block.rows("train")
    real = block.gather(8, rows).astype(np.float64)
    asked = np.random.default_rng(0).integers(0, 256, (8, 8, channels)).astype(np.uint8)
    apart = np.sqrt(((real - asked) ** 2).mean(axis=(1, 2, 3)))
    expected = np.argsort(apart)[:5]

    training = TrainingImages(block, SIZE, channels)
    found = training.nearest(torch.from_numpy(asked), 5)
    assert len(training) == training.total == len(rows) == 39
    assert [each.apart for each in found] == pytest.approx(apart[expected])
    for near, place in zip(found, expected, strict=True):
        assert np.array_equal(near.image.numpy(), real[place])
        label = block.labels[rows[place]]
        assert near.name == (CLASSES[label] if label >= 0 else "")


def test_an_image_of_the_val_split_is_not_shown(tmp_path: Path) -> None:
    block = write_block(tmp_path / "data", 8, 3)
    training = TrainingImages(block, SIZE, 3)
    kept, held = (torch.from_numpy(block.gather(8, block.rows(split)[:1]))[0] for split in ("train", "val"))
    assert training.nearest(kept, 1)[0].apart == 0 < training.nearest(held, 1)[0].apart


def test_of_more_than_fit_in_memory_some_of_each_part_are_compared(tmp_path: Path) -> None:
    block = write_block(tmp_path / "data", 8, 3)
    training = TrainingImages(block, SIZE, 3, most=8 * 8 * 3 * 10)
    assert (len(training), training.total) == (10, 36)
    assert {near.name for near in training.nearest(torch.zeros(8, 8, 3, dtype=torch.uint8), 99)} == set(CLASSES)


def test_images_unlike_the_models_are_refused(tmp_path: Path) -> None:
    block = write_block(tmp_path / "data", 8, 3)
    with pytest.raises(BlockError, match="has RGB images, and the model draws grey ones: name its own by --data"):
        TrainingImages(block, SIZE, 1)
    with pytest.raises(BlockError, match="has 8 px, not 16"):
        TrainingImages(block, Size(16, 16), 3)
