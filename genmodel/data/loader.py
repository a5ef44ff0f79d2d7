"""Batches of a block: the same ones whether they come from the device's memory or from the memory map."""

import os
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from genmodel.data.block import Block, Split
from genmodel.data.order import flips, order
from genmodel.errors import ConfigError

_AHEAD = 1 << 13  # positions whose order is worked out at once
_COPY = 64 << 20  # bytes read at once while the split is brought into memory


class Loader:
    """A split of a block at one size, in an order that is a function of (seed, images_seen) alone.

    The images live on `device` where they fit into `memory_budget` bytes (default: half of what is free there), else
    they are gathered from the memory map for each batch. With `flip`, half of the images are mirrored, anew every
    epoch. Of `world_size` processes each takes its share of every batch, in the order of their ranks.
    """

    def __init__(
        self,
        block: Block,
        image_size: int,
        split: Split,
        seed: int,
        device: str | torch.device = "cpu",
        flip: bool = False,
        memory_budget: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        assert 0 <= rank < world_size
        block.shards(image_size)  # a size that the block has not is an error now, not at the first batch
        self.block, self.image_size, self.seed, self.flip = block, image_size, seed, flip
        self.device = torch.device(device)
        self.rank, self.world_size = rank, world_size
        self._rows = block.rows(split)
        self._labels = torch.from_numpy(block.labels[self._rows].astype(np.int64)).to(self.device)
        budget = _free_memory(self.device) // 2 if memory_budget is None else memory_budget
        self.resident = len(self) * image_size * image_size * 3 <= budget
        self._images: Tensor | None = None
        self._first, self._order = 0, np.empty(0, np.int64)

    def __len__(self) -> int:
        """Images in the split."""
        return len(self._rows)

    def batch(self, images_seen: int, batch_size: int) -> tuple[Tensor, Tensor]:
        """The batch after `images_seen` images: uint8 [B, S, S, 3] and labels int64 [B], on the device.

        B is batch_size / world_size; ConfigError if that is no whole number. A batch may straddle two epochs.
        """
        share, rest = divmod(batch_size, self.world_size)
        if rest:
            raise ConfigError(f"training.batch_size: {batch_size} cannot be shared by {self.world_size} processes")
        first = images_seen + self.rank * share
        images, labels = self._take(self._ordered(first, share))
        if self.flip:
            chosen = np.flatnonzero(flips(np.arange(first, first + share), self.seed))  # on the host: nothing waits
            index = torch.from_numpy(chosen).to(self.device, non_blocking=True)
            images.index_copy_(0, index, images.index_select(0, index).flip(2))
        return images, labels

    def sequential(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The whole split once, in canonical order and never mirrored; the last batch may be smaller."""
        for start in range(0, len(self), batch_size):
            yield self._take(np.arange(start, min(start + batch_size, len(self))))

    def _ordered(self, first: int, count: int) -> np.ndarray:
        start = first - self._first
        if start < 0 or start + count > len(self._order):
            positions = np.arange(first, first + max(count, _AHEAD))
            self._first, self._order, start = first, order(positions, len(self), self.seed), 0
        return self._order[start : start + count]

    def _take(self, places: np.ndarray) -> tuple[Tensor, Tensor]:
        """The images and labels at places of the split, int64 [n]."""
        index = torch.from_numpy(places).to(self.device, non_blocking=True)
        if self.resident:
            if self._images is None:
                self._images = self._bring()
            return self._images.index_select(0, index), self._labels.index_select(0, index)
        images = torch.from_numpy(self.block.gather(self.image_size, self._rows[places]))
        if self.device.type == "cuda":
            images = images.pin_memory().to(self.device, non_blocking=True)
        return images.to(self.device), self._labels.index_select(0, index)

    def _bring(self) -> Tensor:
        size = self.image_size
        images = torch.empty((len(self), size, size, 3), dtype=torch.uint8, device=self.device)
        step = max(1, _COPY // (size * size * 3))
        for start in range(0, len(self), step):
            part = self.block.gather(size, self._rows[start : start + step])
            images[start : start + step] = torch.from_numpy(part)
        return images


def _free_memory(device: torch.device) -> int:
    """Bytes that are free on the device; unknown ones count as none."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu":
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0
