"""Batches: the same from memory and from the map, for any start, any world size."""

from pathlib import Path

import numpy as np
import pytest
import torch

from genmodel.data.block import Block
from genmodel.data.loader import Loader
from genmodel.data.prepare import prepare
from genmodel.errors import BlockError, ConfigError


@pytest.fixture(scope="module")
def block(images: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Block:
    folder = tmp_path_factory.mktemp("loader")
    for name, content in images.items():
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "raw" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genmodel.data.prepare.SHARD_BYTES", 8 * 16 * 16 * 3)
        return prepare(str(folder / "raw"), folder / "data", [8, 16], 1, val_fraction=0.2)


def numbers(loader: Loader, images: torch.Tensor) -> list[int]:
    """Which image of the split each is."""
    known = {image.numpy().tobytes(): i for i, image in enumerate(torch.cat([b for b, _ in loader.sequential(7)]))}
    return [known[image.numpy().tobytes()] for image in images]


def test_shapes_and_types(block: Block) -> None:
    images, labels = Loader(block, 16, "train", 0).batch(0, 12)
    assert images.shape == (12, 16, 16, 3) and images.dtype == torch.uint8
    assert labels.shape == (12,) and labels.dtype == torch.int64


def test_sequential_is_the_split_in_canonical_order(block: Block) -> None:
    loader = Loader(block, 16, "val", 0, flip=True)
    batches = list(loader.sequential(4))
    rows = block.rows("val")
    assert len(loader) == len(rows) and [len(labels) for _, labels in batches[:-1]] == [4] * (len(batches) - 1)
    np.testing.assert_array_equal(torch.cat([images for images, _ in batches]), block.gather(16, rows))
    np.testing.assert_array_equal(torch.cat([labels for _, labels in batches]), block.labels[rows])


def test_every_epoch_shows_every_image_once_and_batches_straddle(block: Block) -> None:
    loader = Loader(block, 16, "train", 3)
    count = len(loader)
    seen = numbers(loader, torch.cat([loader.batch(start, 5)[0] for start in range(0, 5 * count, 5)]))
    epochs = [seen[i * count : (i + 1) * count] for i in range(5)]
    assert all(sorted(epoch) == list(range(count)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_labels_belong_to_their_images(block: Block) -> None:
    loader = Loader(block, 16, "all", 3)
    images, labels = loader.batch(17, 60)
    assert labels.tolist() == block.labels[numbers(loader, images)].tolist()


@pytest.mark.parametrize("flip", [False, True])
def test_memory_and_map_give_the_same(block: Block, flip: bool) -> None:
    resident, mapped = (Loader(block, 16, "train", 1, flip=flip, memory_budget=budget) for budget in (1 << 30, 0))
    assert resident.resident and not mapped.resident
    for start in (0, 7, 1000, 3, 10**9):
        for a, b in zip(resident.batch(start, 9), mapped.batch(start, 9), strict=True):
            assert torch.equal(a, b)
    for one, two in zip(resident.sequential(10), mapped.sequential(10), strict=True):
        assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])


def test_a_budget_one_byte_short_is_respected(block: Block) -> None:
    need = len(block.rows("train")) * 16 * 16 * 3
    assert Loader(block, 16, "train", 1, memory_budget=need).resident
    assert not Loader(block, 16, "train", 1, memory_budget=need - 1).resident


def test_a_resume_replays_nothing_and_batch_size_does_not_matter(block: Block) -> None:
    loader = Loader(block, 16, "train", 1, flip=True)
    straight = torch.cat([loader.batch(start, 8)[0] for start in range(0, 96, 8)])
    resumed = Loader(block, 16, "train", 1, flip=True)
    assert torch.equal(resumed.batch(40, 8)[0], straight[40:48])
    assert torch.equal(resumed.batch(0, 96)[0], straight)


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_any_world_size_shares_the_same_batch(block: Block, world: int) -> None:
    whole = Loader(block, 16, "train", 1, flip=True).batch(24, 12)
    loaders = [Loader(block, 16, "train", 1, flip=True, rank=rank, world_size=world) for rank in range(world)]
    ranks = [loader.batch(24, 12) for loader in loaders]
    for part, expected in zip(zip(*ranks, strict=True), whole, strict=True):
        assert torch.equal(torch.cat(part), expected)


def test_a_batch_that_cannot_be_shared_is_told(block: Block) -> None:
    with pytest.raises(ConfigError, match="batch_size: 10 cannot be shared by 3"):
        Loader(block, 16, "train", 1, world_size=3).batch(0, 10)


def test_flips_mirror_half_of_the_images(block: Block) -> None:
    plain, flipped = (Loader(block, 16, "train", 1, flip=flip).batch(0, 400)[0] for flip in (False, True))
    mirrored = [torch.equal(f, p.flip(1)) for p, f in zip(plain, flipped, strict=True)]
    kept = [torch.equal(f, p) for p, f in zip(plain, flipped, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250
    assert torch.equal(Loader(block, 16, "train", 1).batch(0, 400)[0], plain)  # the stored images stay as they are


def test_bad_sizes_and_splits_are_told_at_once(block: Block, tmp_path: Path) -> None:
    with pytest.raises(BlockError, match="not 64"):
        Loader(block, 64, "train", 0)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_same(block: Block) -> None:
    cpu = Loader(block, 16, "train", 1, flip=True)
    for budget in (None, 0):
        gpu = Loader(block, 16, "train", 1, "cuda", flip=True, memory_budget=budget)
        for a, b in zip(cpu.batch(5, 20), gpu.batch(5, 20), strict=True):
            assert b.device.type == "cuda" and torch.equal(a, b.cpu())
