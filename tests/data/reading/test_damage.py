"""A damaged block is told before, or while, it is trained on."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.data.reading.loader import Loader
from genmodel.data.reading.store import Place
from genmodel.errors import BlockError
from genmodel.params import run_config
from genmodel.training.identify import identify
from genmodel.training.trainer import train

DAMAGED = r"16/shard-00001\.npy is damaged"


def test_bad_sizes_and_splits_are_told_at_once(block: Block, tmp_path: Path) -> None:
    with pytest.raises(BlockError, match="not 64"):
        Loader(block, 64, "train", 0)


def damaged(block: Block, path: Path, change: Callable[[bytes], bytes]) -> Block:
    """A copy of the block with another second shard."""
    shutil.copytree(block.path, path)
    shard = path / "16" / "shard-00001.npy"
    shard.write_bytes(change(shard.read_bytes()))
    return Block.open(path)


def flip_last_bit(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.fault("damaged block")
@pytest.mark.parametrize("place", ["device", "host"])
def test_what_is_brought_into_memory_is_checked_before_the_first_batch(
    block: Block, tmp_path: Path, place: Place
) -> None:
    loader = Loader(damaged(block, tmp_path / "data", flip_last_bit), 16, "train", 0, place=place)
    with pytest.raises(BlockError, match=DAMAGED):
        loader.batch(0, 4)


@pytest.mark.fault("damaged block")
def test_what_is_mapped_is_checked_while_it_is_read(block: Block, tmp_path: Path) -> None:
    loader = Loader(damaged(block, tmp_path / "data", flip_last_bit), 16, "train", 0, place="map")
    with pytest.raises(BlockError, match=DAMAGED):
        [loader.batch(start, 4) for start in range(0, 400_000, 4)]
    with pytest.raises(BlockError, match=DAMAGED):
        loader.check()


def test_a_sound_block_passes_the_check(block: Block) -> None:
    loader = Loader(block, 16, "train", 0, place="map")
    loader.batch(0, 4)
    loader.check()


def test_a_header_or_a_length_of_its_own_is_told_before_any_batch(block: Block, tmp_path: Path) -> None:
    for name, change in (
        ("header", lambda content: content.replace(b"(8, 16", b"(9, 16", 1)),
        ("length", lambda content: content[:-1]),
    ):
        with pytest.raises(BlockError, match=f"shard-00001.npy is damaged, its {name} does not match"):
            Loader(damaged(block, tmp_path / name, change), 16, "train", 0)


@pytest.mark.fault("damaged block")
def test_a_training_stops_at_a_damaged_shard(block: Block, tmp_path: Path) -> None:
    config = run_config({"family": "dcgan", "image_size": 16}, "test", ["images=64", "batch_size=8", "base_channels=4"])
    broken = damaged(block, tmp_path / "data", flip_last_bit)
    with pytest.raises(BlockError, match=DAMAGED):
        train(identify("test", config, broken), broken, tmp_path / "out", tmp_path / "runs")
    assert not (tmp_path / "out").exists()
