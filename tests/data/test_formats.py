"""Blocks of every form: those of format 2, as earlier versions wrote them, and rectangles of 1, 3 and 4 channels."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from genmodel.data.block import Block, shard_header
from genmodel.data.making.update import update
from genmodel.data.reading.loader import Loader
from genmodel.data.reading.store import Place
from genmodel.errors import BlockError
from genmodel.files import durable
from genmodel.params import run_config
from genmodel.sizes import Size
from genmodel.training.identify import identify
from genmodel.training.trainer import train
from tests.blocks import pictures, write_block


@pytest.fixture
def old(tmp_path: Path) -> Block:
    """28 images of three classes at 8 and 16 px, in two generations, as the version before format 3 made them."""
    with zipfile.ZipFile(Path(__file__).with_name("block-format-2.zip")) as archive:
        archive.extractall(tmp_path)
    return Block.open(tmp_path / "data")


def test_a_block_of_format_2_opens_and_verifies(old: Block) -> None:
    assert json.loads((old.path / "block.json").read_text())["format"] == 2
    assert (old.sizes, old.channels, len(old)) == ([Size(8, 8), Size(16, 16)], 3, 28)
    assert old.gather(16, np.arange(28)).shape == (28, 16, 16, 3)
    assert old.verify(watch=False) == []


def test_a_block_of_format_2_trains(old: Block, tmp_path: Path) -> None:
    values = {"family": "vae", "image_size": 8, "network": {"base_channels": 2, "latent_dim": 3}}
    config = run_config(values | {"training": {"images": 32, "batch_size": 8}}, "test")
    train(identify("small", config, old), old, tmp_path / "model", tmp_path / "runs")
    about = json.loads((tmp_path / "model/config.json").read_text())
    assert (about["classes"], about["config"]["image_size"]) == (["circle", "square", "star"], 8)


def test_an_update_of_a_block_of_format_2_goes_on_in_it(old: Block, raw: Path) -> None:
    shards = {path: durable.digest_file(path) for path in old.path.glob("*/*.npy")}
    made = update(str(raw), old.path, workers=1)
    assert made.added > 0 and (made.block.facts["format"], made.block.channels) == (2, 3)
    assert {name: made.block.facts[name] for name in ("sizes", "resize")} == {"sizes": [8, 16], "resize": "adm-1"}
    for name, split in zip(made.block.ledger()["sha256"], made.block.splits.tolist(), strict=True):
        assert split == int(int(name[:8], 16) < old.facts["val_fraction"] * 2**32), "the split of format 2"
    assert {path: durable.digest_file(path) for path in shards} == shards, "what was there stays"
    assert made.block.verify(watch=False) == []


@pytest.mark.parametrize(("size", "channels"), [("8", 1), ("16x8", 3), ("8x24", 4), ("28", 1)])
@pytest.mark.parametrize("place", ["device", "map"])
def test_images_of_any_shape_come_as_they_were_written(size: str, channels: int, place: Place, tmp_path: Path) -> None:
    block = write_block(tmp_path / "data", size, channels)
    shape = (*Size.of(size), channels)
    expected = pictures(Size.of(size), channels, block.labels)
    np.testing.assert_array_equal(block.gather(size, np.arange(len(block))), expected)
    np.testing.assert_array_equal(np.load(next(block.path.glob("*/*.npy"))), expected)
    assert block.verify(watch=False) == []
    rows, loader = block.rows("train"), Loader(block, size, "train", 0, place=place)
    images, labels = loader.batch(0, 8)
    places = [row for row in rows if any(np.array_equal(expected[row], image) for image in images.numpy())]
    assert images.shape == (8, *shape) and len(places) == 8
    mirrored = Loader(block, size, "train", 0, place=place, flip=True).batch(0, 8)[0]
    for plain, other in zip(images, mirrored, strict=True):
        assert torch.equal(plain, other) or torch.equal(plain.flip(1), other)
    assert any(not torch.equal(plain, other) for plain, other in zip(images, mirrored, strict=True))
    assert labels.tolist() == [int(block.labels[row]) for row in _order(block, loader, images, expected)]


def _order(block: Block, loader: Loader, images: torch.Tensor, expected: np.ndarray) -> list[int]:
    return [next(row for row in range(len(block)) if np.array_equal(expected[row], image)) for image in images.numpy()]


def test_a_shard_of_other_channels_than_block_json_says_is_noticed(tmp_path: Path) -> None:
    block = write_block(tmp_path / "data", "16x8", 4)
    facts = {name: value for name, value in block.facts.items() if name != "channels"} | {"sizes": ["16x8"]}
    path = block.path / "16x8/shard-00000.npy"
    rows = len(block)
    pixels = path.read_bytes()[128:]
    path.write_bytes(shard_header(rows, Size.of("8x16"), 4) + pixels)
    facts["files"]["16x8/shard-00000.npy"]["sha256"] = durable.digest_file(path)
    durable.write_sealed(block.path / "block.json", facts | {"channels": 4})
    assert Block.open(block.path).verify(watch=False) == [
        f"16x8/shard-00000.npy: its header is not that of {rows} images"
    ]


@pytest.mark.parametrize(("rows", "size", "channels"), [(1, "128x64", 3), (0, "64x128", 1), (131072, "8x4096", 4)])
def test_headers_of_rectangles_are_numpys(rows: int, size: str, channels: int, tmp_path: Path) -> None:
    header = shard_header(rows, Size.of(size), channels)
    assert len(header) == 128
    shape = (rows, *Size.of(size), channels)
    with (tmp_path / "a.npy").open("wb") as handle:
        handle.write(header)
        handle.truncate(128 + int(np.prod(shape)))
    assert np.load(tmp_path / "a.npy", mmap_mode="r" if rows else None).shape == shape


def test_images_without_a_label_are_in_no_class_and_can_be_left_out(tmp_path: Path) -> None:
    block = write_block(tmp_path / "data", 8, 3, per_class=8, unlabelled=8)
    loader = Loader(block, 8, "train", 0)
    assert (len(loader), loader.class_counts()) == (18, [6, 6])
    assert sorted(loader.batch(0, 18)[1].tolist()) == [-1] * 6 + [0] * 6 + [1] * 6
    labelled = Loader(block, 8, "train", 0, unlabelled=False)
    assert sorted(labelled.batch(0, 12)[1].tolist()) == [0] * 6 + [1] * 6
    block.labels = np.full_like(block.labels, -1)
    with pytest.raises(BlockError, match="no labelled images in split train"):
        Loader(block, 8, "train", 0, unlabelled=False)
