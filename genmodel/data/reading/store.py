"""Where a split's images are read from: the device's memory, the host's, or the memory map. All give the same bytes."""

import ctypes
import math
import mmap
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from genmodel.data.block import HEADER, Block
from genmodel.data.check import ShardCheck
from genmodel.sizes import Size

Place = Literal["device", "host", "map"]

_MAP_FIXED = 0x10  # on Linux and macOS
_COPY = 64 << 20  # bytes read at once while a split is brought into memory


class Store:
    """The images at `rows` of a block (int64 [n]), held at `place`.

    Images in memory are loaded, and their shards' digests compared, at the first `take`. Those of the memory map are
    compared during the training; damage stops the next `take`. BlockError names the damaged file.
    """

    def __init__(self, block: Block, size: Size, rows: np.ndarray, device: torch.device, place: Place) -> None:
        shape = (*size, block.channels)
        self._shape = (len(rows), *shape)
        self._device, self._place = device, place
        ledger = block.ledger(["shard", "row"])
        shards = ledger["shard"][rows]
        self._mapped, firsts = one_range(block.shards(size), shape)
        self._rows = firsts[shards] + ledger["row"][rows]  # in the range
        self.check = ShardCheck(block, size, np.unique(shards).tolist())
        self._checking = threading.Lock()
        self._held: Tensor | None = None

    def take(self, places: np.ndarray) -> Tensor:
        """Copies of the images at places of the split, uint8 [n, H, W, C]: on the device if they live there, else in
        the host's memory, pinned where the device is a GPU. Threads may call it concurrently."""
        with self._checking:
            if self._place == "map":
                self.check.beside()
            elif self._held is None:
                self.check.now()
                self._held = self._bring()
        if self._held is not None and self._held.device.type != "cpu":
            return self._held.index_select(0, torch.from_numpy(places).to(self._device, non_blocking=True))
        images, pixels = self._room(len(places))
        # On one core. The threads of torch.index_select wait for each other: where another process has one of the
        # cores, they take 10 to 40 times as long.
        if self._held is None:
            self._mapped.take(self._rows[places], 0, pixels, "clip")
        else:
            self._held.numpy().take(places, 0, pixels, "clip")
        return images

    def _room(self, count: int) -> tuple[Tensor, np.ndarray]:
        """Host memory as a tensor and an array. numpy asks for huge pages; torch does not: half as fast to fill."""
        shape = (count, *self._shape[1:])
        if self._device.type == "cuda":
            pinned = torch.empty(shape, dtype=torch.uint8, pin_memory=True)
            return pinned, pinned.numpy()
        pixels = np.empty(shape, np.uint8)
        return torch.from_numpy(pixels), pixels

    def _bring(self) -> Tensor:
        on_host = self._place == "host" or self._device.type == "cpu"
        if on_host:
            images, _ = self._room(len(self._rows))
        else:
            images = torch.empty(self._shape, dtype=torch.uint8, device=self._device)
        step = max(1, _COPY // images[0].numel())
        for start in range(0, len(images), step):
            part = images[start : start + step]
            read = part.numpy() if part.device.type == "cpu" else np.empty(part.shape, np.uint8)
            self._mapped.take(self._rows[start : start + len(part)], 0, read, "clip")
            part.copy_(torch.from_numpy(read))
        return images


def one_range(shards: Sequence[np.ndarray], shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Memory-mapped shards of images of one `shape` (H, W, C), mapped again one after the other: uint8 [R, H, W, C],
    and the row where each shard begins, int64 [len(shards)]. One call then gathers rows of many shards, in C and
    without Python's lock.

    Between two shards are rows that must not be read: a file begins at a page, and its rows must be a whole number of
    rows from those of the first. They cost only address space.
    """
    row = math.prod(shape)
    slot = math.lcm(row, mmap.ALLOCATIONGRANULARITY)
    slots = [-(-(HEADER + shard.nbytes) // slot) for shard in shards]
    firsts = np.cumsum([0, *slots]) * (slot // row)
    whole = mmap.mmap(-1, sum(slots) * slot, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ)
    content = np.frombuffer(whole, np.uint8)
    for shard, first in zip(shards, firsts.tolist(), strict=False):
        if isinstance(shard, np.memmap):  # an empty one is not a memmap
            _map_at(content.ctypes.data + first * row, Path(str(shard.filename)))
    rows = (len(content) - HEADER) // row
    return content[HEADER : HEADER + rows * row].reshape(rows, *shape), firsts[:-1]


def _map_at(address: int, path: Path) -> None:
    """Map a whole file for reading, over what is mapped at `address`; Python's own mmap takes no address."""
    with path.open("rb") as file:
        length = os.fstat(file.fileno()).st_size
        flags = mmap.MAP_SHARED | _MAP_FIXED
        libc = ctypes.CDLL(None, use_errno=True)
        libc.mmap.restype = ctypes.c_void_p
        libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_longlong]
        if libc.mmap(address, length, mmap.PROT_READ, flags, file.fileno(), 0) != address:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(path))


def best_place(need: int, device: torch.device) -> Place:
    """The fastest place for `need` bytes that takes at most half of the memory that is free there."""
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else _free_host()
    if need <= free // 2:
        return "device"
    return "host" if device.type == "cuda" and need <= _free_host() // 2 else "map"


def _free_host() -> int:
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
