"""Where a split's images are read from: the device's memory, the host's, or the memory map. All give the same bytes."""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.data.check import ShardCheck

Place = Literal["device", "host", "map"]

_LARGE = 1 << 20  # bytes of a batch from which on a second thread is worth its start
_LONG = 1 << 16  # bytes of an image, the same
_COPY = 64 << 20  # bytes read at once while a split is brought into memory


class Store:
    """The images at `rows` of a block (int64 [n]), held at `place`.

    Those in memory are brought there, and their shards' digests compared, at the first `take`. Those of the memory map
    are compared beside the training; what is found stops the next `take`. BlockError names the damaged file.
    """

    def __init__(self, block: Block, size: int, rows: np.ndarray, device: torch.device, place: Place) -> None:
        self._shape = (len(rows), size, size, 3)
        self._device, self._place = device, place
        ledger = block.ledger(["shard", "row"])
        self._shards, self._rows = ledger["shard"][rows], ledger["row"][rows]
        self._maps = [np.asarray(shard) for shard in block.shards(size)]  # an np.memmap itself is slow to index
        self.check = ShardCheck(block, size, np.unique(self._shards).tolist())
        self._helper = ThreadPoolExecutor(1, "gather")
        self._held: Tensor | None = None
        self._held_pixels = np.empty(0, np.uint8)  # the same memory, where it is the host's

    def take(self, places: np.ndarray) -> Tensor:
        """Copies of the images at places of the split, uint8 [n, S, S, 3]: on the device if they live there, else in
        the host's memory, pinned where the device is a GPU."""
        if self._place == "map":
            self.check.beside()
        elif self._held is None:
            self.check.now()
            self._held = self._bring()
        if self._held is not None and self._held.device.type != "cpu":
            return self._held.index_select(0, torch.from_numpy(places).to(self._device, non_blocking=True))
        images, pixels = self._room(len(places))
        self._fill(places, pixels)
        return images

    def _fill(self, places: np.ndarray, out: np.ndarray) -> None:
        """Half of a large batch in a thread beside, as one core cannot use all of the memory's speed. Small images are
        read from the map in one thread: others would wait for Python's lock."""
        copy, least = (self._read, _LONG) if self._held is None else (self._gather, 0)
        half = len(places) // 2 if out.nbytes >= _LARGE and out[0].nbytes >= least else 0
        beside = self._helper.submit(copy, places[:half], out[:half]) if half else None
        copy(places[half:], out[half:])
        if beside is not None:
            beside.result()

    def _gather(self, places: np.ndarray, out: np.ndarray) -> None:
        self._held_pixels.take(places, 0, out, "clip")

    def _read(self, places: np.ndarray, out: np.ndarray) -> None:
        """One by one: a batch meets nearly as many shards as it has images."""
        for i, (shard, row) in enumerate(zip(self._shards[places].tolist(), self._rows[places].tolist(), strict=True)):
            out[i] = self._maps[shard][row]

    def _room(self, count: int) -> tuple[Tensor, np.ndarray]:
        """Memory of the host, as both see it. Numpy asks for huge pages, torch does not and is half as fast to fill."""
        shape = (count, *self._shape[1:])
        if self._device.type == "cuda":
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            return pinned, pinned.numpy()
        pixels = np.empty(shape, np.uint8)
        return torch.from_numpy(pixels), pixels

    def _bring(self) -> Tensor:
        on_host = self._place == "host" or self._device.type == "cpu"
        if on_host:
            images, self._held_pixels = self._room(len(self._rows))
        else:
            images = torch.empty(self._shape, dtype=torch.uint8, device=self._device)
        step = max(1, _COPY // images[0].numel())
        for start in range(0, len(images), step):
            part = images[start : start + step]
            read = part.numpy() if part.device.type == "cpu" else np.empty(part.shape, np.uint8)
            self._read(np.arange(start, start + len(part)), read)
            part.copy_(torch.from_numpy(read))
        return images


def best_place(need: int, device: torch.device) -> Place:
    """The fastest place for `need` bytes that leaves half of the memory free there that is free now."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_host()
    if need <= free // 2:
        return "device"
    return "host" if device.type == "cuda" and need <= _free_host() // 2 else "map"


def _free_host() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
