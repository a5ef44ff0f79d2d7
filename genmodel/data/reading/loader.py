"""Batches of a block: the same ones whether they come from the device's memory, the host's, or the memory map."""

import hashlib
import math
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from genmodel.data.block import UNLABELLED, Block, Split
from genmodel.data.reading.order import flips, labelled_places, order
from genmodel.data.reading.store import Place, Store, best_place
from genmodel.errors import BlockError, ConfigError
from genmodel.output.counting import counted
from genmodel.sizes import Size

_AHEAD = 1 << 13  # positions whose order is computed at once
_CACHED = 256 << 10  # bytes mirrored at once
_BATCHES = 2  # read ahead, if reading takes the host's time
_THREADS = 2  # read ahead, one batch each: one core cannot use the full memory bandwidth


class Loader:
    """A split of a block at one size, in an order that is a function of (seed, images_seen) alone.

    `place` is where the images live: in the memory of `device` if they fit in half of what is free there, else in the
    (pinned) memory of the host, else in the memory map. Images not on the device are read ahead by a thread. With
    `flip`, half of the images are mirrored, chosen anew every epoch. In each class `labelled` images, chosen by the
    seed, keep their label; the others get -1, like images without a class, which `unlabelled=False` leaves out. Each of
    `world_size` processes takes its share of every batch, in rank order. `Store` says what is compared with block.json,
    and when.
    """

    def __init__(
        self,
        block: Block,
        image_size: Size | int | str,
        split: Split,
        seed: int,
        device: str | torch.device = "cpu",
        flip: bool = False,
        labelled: int | None = None,
        unlabelled: bool = True,
        place: Place | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert 0 <= rank < world_size
        self.block, self.image_size, self.seed, self.flip = block, Size.of(image_size), seed, flip
        block.shards(self.image_size)  # a size that the block lacks is an error now, not at the first batch
        self.device = torch.device(device)
        self.rank, self.world_size = rank, world_size
        self._rows = block.rows(split)
        if not unlabelled:
            self._rows = self._rows[block.labels[self._rows] != UNLABELLED]
            if not len(self._rows):
                raise BlockError(
                    f"{block.path} has no labelled images in split {split}: prepare it with another --val-fraction"
                )
        self._labels = block.labels[self._rows].astype(np.int64)
        if labelled is not None:
            self._labels[~labelled_places(self._labels, labelled, seed)] = -1
        self.place: Place = place or best_place(len(self) * math.prod(self.image_size) * block.channels, self.device)
        self._store = Store(block, self.image_size, self._rows, self.device, self.place)
        self._threads = None if self.place == "device" else ThreadPoolExecutor(_THREADS, "read-ahead")
        self._coming: dict[tuple[int, int], tuple[Future[Tensor], np.ndarray]] = {}  # (first, count) -> batch, places
        self._first, self._order = 0, np.empty(0, np.int64)
        self._digest, self._digested = hashlib.sha256(), 0

    def __len__(self) -> int:
        """Images in the split."""
        return len(self._rows)

    def batch(self, images_seen: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """The batch after `images_seen` images: uint8 [B, H, W, C] and labels int64 [B], on the device.

        B is batch_size / world_size; ConfigError if that is not a whole number; BlockError once a shard is found
        damaged. A batch may straddle two epochs.
        """
        share, rest = divmod(batch_size, self.world_size)
        if rest:
            raise ConfigError(
                f"training.batch_size: {batch_size} cannot be split equally among {counted(self.world_size, 'process')}"
            )
        images, places = self._expected(images_seen + self.rank * share, share, batch_size)
        images = images.to(self.device, non_blocking=True)
        if self.flip:
            first = images_seen + self.rank * share
            self._mirror(images, np.flatnonzero(flips(np.arange(first, first + share), self.seed)))
        return images, self._labels_at(places)

    def in_parts(self, images_seen: int, batch_size: int, parts: int) -> tuple[Tensor, Tensor]:
        """`batch`, of which each process takes its share of every one of `parts` parts."""
        starts = [images_seen + part * batch_size // parts for part in range(parts)]
        shares = [self.batch(start, batch_size // parts) for start in starts]
        if parts == 1:
            return shares[0]
        return torch.cat([images for images, _ in shares]), torch.cat([labels for _, labels in shares])

    def first(self, count: int) -> tuple[Tensor, Tensor]:
        """The first `count` images of the order and their labels, not mirrored, whole in every process."""
        places = order(np.arange(count), len(self), self.seed)
        return self._store.take(places).to(self.device), self._labels_at(places)

    def class_counts(self) -> list[int]:
        """How many images of the split each class has; those without a label are in none."""
        labels = self.block.labels[self._rows]
        return [int(count) for count in np.bincount(labels[labels != UNLABELLED], minlength=len(self.block.classes))]

    def order_digest(self, images_seen: int) -> str:
        """sha256 over the rows of the block that were shown before `images_seen`, in order, as int64 (-1 - row
        where mirrored), little-endian: the same for any batch size, world size and place. It continues from
        the last call."""
        if images_seen < self._digested:
            self._digest, self._digested = hashlib.sha256(), 0
        for start in range(self._digested, images_seen, _AHEAD):
            positions = np.arange(start, min(start + _AHEAD, images_seen))
            rows = self._rows[order(positions, len(self), self.seed)].astype("<i8")
            mirrored = flips(positions, self.seed) if self.flip else np.zeros(len(rows), bool)
            self._digest.update(np.where(mirrored, ~rows, rows))
        self._digested = images_seen
        return self._digest.hexdigest()

    def check(self) -> None:
        """Wait until every shard in use is compared with its digest; BlockError names one that is damaged."""
        self._store.check.wait()

    def _expected(self, first: int, count: int, stride: int) -> tuple[Tensor, np.ndarray]:
        """The images at positions first, first + 1, ... and their places; starts reading the next batches."""
        if self._threads is None:
            places = self._places(first, count)
            return self._store.take(places), places
        wanted = [(first + i * stride, count) for i in range(1 + _BATCHES)]
        for old in self._coming.keys() - set(wanted):  # the order of batches was broken
            self._coming.pop(old)[0].cancel()
        for batch in wanted:
            if batch not in self._coming:
                places = self._places(*batch)
                self._coming[batch] = self._threads.submit(self._store.take, places), places
        coming, places = self._coming.pop(wanted[0])
        return coming.result(), places

    def _places(self, first: int, count: int) -> np.ndarray:
        start = first - self._first
        if start < 0 or start + count > len(self._order):
            positions = np.arange(first, first + max(count, _AHEAD))
            self._first, self._order, start = first, order(positions, len(self), self.seed), 0
        return self._order[start : start + count]

    def _labels_at(self, places: np.ndarray) -> Tensor:
        return torch.from_numpy(self._labels[places]).to(self.device, non_blocking=True)

    def _mirror(self, images: Tensor, chosen: np.ndarray) -> None:
        """Mirror the images at `chosen` in place; on the host a few at a time, so that they stay in cache."""
        if self.device.type == "cpu":
            pixels = images.numpy()  # numpy copies whole images, torch byte by byte
            step = max(1, _CACHED // pixels[0].nbytes)
            for start in range(0, len(chosen), step):
                some = chosen[start : start + step]
                pixels[some] = torch.from_numpy(pixels[some]).flip(2).numpy()
        else:
            index = torch.from_numpy(chosen).to(self.device, non_blocking=True)
            images.index_copy_(0, index, images.index_select(0, index).flip(2))
