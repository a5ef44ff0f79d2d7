"""Batches: the same from memory and from the map, for any start, any world size."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.data.reading import store
from genmodel.data.reading.loader import Loader
from genmodel.data.reading.order import flips, order
from genmodel.data.reading.store import Place, best_place
from genmodel.errors import ConfigError
from genmodel.files.durable import digest_bytes, write_json
from genmodel.params import run_config
from genmodel.showing.grids import save_grid
from genmodel.sizes import Size
from genmodel.training.identify import identify

PLACES: tuple[Place, ...] = get_args(Place)


def numbers(loader: Loader, images: torch.Tensor) -> list[int]:
    """Which image of the split each is."""
    known = {image.numpy().tobytes(): i for i, image in enumerate(loader._store.take(np.arange(len(loader))))}
    return [known[image.numpy().tobytes()] for image in images]


def test_shapes_and_types(block: Block) -> None:
    images, labels = Loader(block, 16, "train", 0).batch(0, 12)
    assert images.shape == (12, 16, 16, 3) and images.dtype == torch.uint8
    assert labels.shape == (12,) and labels.dtype == torch.int64


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
@pytest.mark.parametrize("place", ["host", "map"])
def test_every_place_gives_the_same(block: Block, flip: bool, place: Place) -> None:
    one, other = Loader(block, 16, "train", 1, flip=flip), Loader(block, 16, "train", 1, flip=flip, place=place)
    assert one.place == "device"
    for start in (0, 9, 18, 27, 7, 1000, 3, 12, 10**9):  # in order, which is read ahead, and not
        for a, b in zip(one.batch(start, 9), other.batch(start, 9), strict=True):
            assert torch.equal(a, b)


def test_batches_are_read_ahead(block: Block) -> None:
    loader = Loader(block, 16, "train", 1, place="map")
    loader.batch(0, 9)
    assert sorted(loader._coming) == [(9, 9), (18, 9)]
    loader.batch(36, 9)  # another order of batches forgets them
    assert sorted(loader._coming) == [(45, 9), (54, 9)]


def test_memory_is_used_by_half(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    monkeypatch.setattr("genmodel.data.reading.store._free_host", lambda: 2000)
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda device: (200, 0))
    assert [best_place(need, cpu) for need in (1000, 1001)] == ["device", "map"]
    assert [best_place(need, gpu) for need in (100, 101, 1000, 1001)] == ["device", "host", "host", "map"]


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


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("world", [1, 3])
def test_labels_are_withheld_from_the_same_images_everywhere(block: Block, place: Place, world: int) -> None:
    """In every process, at every place, in every epoch and after a resume; images and their order stay as they are."""
    full, few = Loader(block, 16, "train", 1), Loader(block, 16, "train", 1, labelled=2)
    told, own = torch.from_numpy(few._labels), torch.from_numpy(full._labels)  # by place in the split
    counts = np.bincount(own, minlength=len(block.classes))
    assert np.bincount(told[told >= 0], minlength=len(counts)).tolist() == np.minimum(counts, 2).tolist()
    assert torch.equal(told[told >= 0], own[told >= 0]) and (told == -1).any()
    ranks = [
        Loader(block, 16, "train", 1, labelled=2, place=place, rank=rank, world_size=world) for rank in range(world)
    ]
    for start in (240, 0, 24, 10**6):  # not in order, as a resume
        parts = [loader.batch(start, 12) for loader in ranks]
        images, labels = (torch.cat(part) for part in zip(*parts, strict=True))
        assert torch.equal(images, full.batch(start, 12)[0])
        assert labels.tolist() == told[numbers(few, images)].tolist()
    assert few.class_counts() == full.class_counts() == counts.tolist(), "of the images, not of the labels"
    assert few.order_digest(100) == full.order_digest(100)


@pytest.mark.parametrize("place", PLACES)
def test_the_first_images_are_whole_in_every_process_and_never_mirrored(block: Block, place: Place) -> None:
    expected = Loader(block, 16, "train", 1, labelled=2).batch(0, 12)
    loaders = [
        Loader(block, 16, "train", 1, flip=True, labelled=2, place=place, rank=rank, world_size=3) for rank in range(3)
    ]
    for loader in loaders:
        later = loader.batch(12, 12)
        for part, other in zip(loader.first(12), expected, strict=True):
            assert torch.equal(part, other)
        for part, other in zip(loader.batch(12, 12), later, strict=True):
            assert torch.equal(part, other)
    more = len(loaders[0]) + 5
    assert len(loaders[0].first(more)[1]) == more, "more than there are begin anew"


def test_a_batch_that_cannot_be_shared_is_told(block: Block) -> None:
    with pytest.raises(ConfigError, match="batch_size: 10 cannot be split equally among 3"):
        Loader(block, 16, "train", 1, world_size=3).batch(0, 10)


def test_flips_mirror_half_of_the_images(block: Block) -> None:
    plain, flipped = (Loader(block, 16, "train", 1, flip=flip).batch(0, 400)[0] for flip in (False, True))
    mirrored = [torch.equal(f, p.flip(1)) for p, f in zip(plain, flipped, strict=True)]
    kept = [torch.equal(f, p) for p, f in zip(plain, flipped, strict=True)]
    assert all(m or k for m, k in zip(mirrored, kept, strict=True))
    assert 150 < sum(mirrored) < 250
    assert torch.equal(Loader(block, 16, "train", 1).batch(0, 400)[0], plain)  # the stored images stay as they are


@pytest.mark.parametrize("flip", [False, True])
def test_the_digest_of_the_order_depends_on_the_order_alone(block: Block, flip: bool) -> None:
    loader = Loader(block, 16, "train", 1, flip=flip)
    positions = np.arange(20_000)
    rows = block.rows("train")[order(positions, len(loader), 1)]
    rows = np.where(flips(positions, 1), -1 - rows, rows) if flip else rows
    for seen in (5, 20_000, 9_000, 0):  # on, and back
        assert loader.order_digest(seen) == digest_bytes(rows[:seen].astype("<i8").tobytes())
    other = Loader(block, 8, "train", 1, flip=flip, place="map", rank=1, world_size=2)
    other.batch(0, 10)
    assert other.order_digest(300) == loader.order_digest(300)
    assert Loader(block, 16, "train", 2, flip=flip).order_digest(300) != loader.order_digest(300)


def test_the_batch_of_a_step_is_shown_again(block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run_config({"family": "dcgan", "image_size": 16}, "test", ["images=64", "batch_size=8", "seed=5"])
    identity = identify("test", config, block)
    write_json(tmp_path / "identity.json", identity.as_dict())
    ask = ["batch", "--run", str(tmp_path), "--data", str(block.path), "--out", str(tmp_path / "grid.png"), "--step"]
    main([*ask, "3"])
    images, _ = Loader(block, 16, "train", 5, flip=config.training.flip).batch(16, 8)
    save_grid(tmp_path / "expected.png", images)
    assert (tmp_path / "grid.png").read_bytes() == (tmp_path / "expected.png").read_bytes()
    assert "order" in capsys.readouterr().out
    for step, said in (("0", "the run has steps 1 to 8"), ("9", "the run has steps 1 to 8")):
        with pytest.raises(SystemExit):
            main([*ask, step])
        assert said in capsys.readouterr().err
    write_json(tmp_path / "identity.json", identity.as_dict() | {"block": "0" * 64})
    with pytest.raises(SystemExit):
        main([*ask, "3"])
    assert "is not the run's block" in capsys.readouterr().err


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_gpu_gives_the_same(block: Block) -> None:
    cpu = Loader(block, 16, "train", 1, flip=True)
    for place in PLACES:
        gpu = Loader(block, 16, "train", 1, "cuda", flip=True, place=place)
        for a, b in zip(cpu.batch(5, 20), gpu.batch(5, 20), strict=True):
            assert b.device.type == "cuda" and torch.equal(a, b.cpu())


@pytest.mark.parametrize("place", PLACES)
def test_a_large_batch_in_any_order_holds_its_images(place: Place, block: Block) -> None:
    rows, places = np.arange(len(block))[::-1], np.random.default_rng(0).integers(len(block), size=6001)
    held = store.Store(block, Size.of(8), rows, torch.device("cpu"), place)
    np.testing.assert_array_equal(held.take(places).numpy(), block.gather(8, rows[places]))


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_gathering_from_memory_waits_for_no_other_core(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that share the work of a batch wait for each other where another process has a core: tens of times."""
    images = torch.zeros((3000, 64, 64, 3), dtype=torch.uint8)
    monkeypatch.setattr(store.Store, "_bring", lambda self: images)
    held = store.Store(block, Size.of(16), np.arange(len(block)), torch.device("cpu"), "device")
    held._shape = tuple(images.shape)
    places, threads = np.random.default_rng(0).integers(len(images), size=256), torch.get_num_threads()

    def share() -> float:
        """Of the CPU time that a hundred calls cost, the part that this thread has spent."""
        mine, all_threads = time.thread_time(), time.process_time()
        for _ in range(100):
            held.take(places)
        return (time.thread_time() - mine) / (time.process_time() - all_threads)

    torch.set_num_threads(2)
    try:
        assert share() > 0.75
    finally:
        torch.set_num_threads(threads)


def test_shards_in_one_range_hold_their_rows_and_give_the_addresses_back(block: Block) -> None:
    shards = block.shards(16)
    assert len(shards) > 2
    before = Path("/proc/self/maps").read_text().count("16/shard-")
    images, firsts = store.one_range(shards, (16, 16, 3))
    assert Path("/proc/self/maps").read_text().count("16/shard-") == before + len(shards)
    for shard, first in zip(shards, firsts, strict=True):
        np.testing.assert_array_equal(images[first : first + len(shard)], shard)
    assert not images.flags.writeable
    del images
    assert Path("/proc/self/maps").read_text().count("16/shard-") == before


def test_a_shard_without_rows_takes_a_place_in_the_range(block: Block) -> None:
    shards = [np.empty((0, 16, 16, 3), np.uint8), block.shards(16)[1]]
    images, firsts = store.one_range(shards, (16, 16, 3))
    np.testing.assert_array_equal(images[firsts[1] : firsts[1] + len(shards[1])], shards[1])


def test_two_threads_bring_the_images_into_memory_once(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    held = store.Store(block, Size.of(8), np.arange(len(block)), torch.device("cpu"), "host")
    brought: list[int] = []
    real = store.Store._bring

    def bring(self: store.Store) -> torch.Tensor:
        brought.append(1)
        time.sleep(0.2)
        return real(self)

    monkeypatch.setattr(store.Store, "_bring", bring)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(held.take, [np.arange(3), np.arange(3)])
    assert brought == [1] and torch.equal(first, second)
