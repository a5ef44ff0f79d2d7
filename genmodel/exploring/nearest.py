"""The training images that are nearest to an image, pixel by pixel."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.errors import BlockError
from genmodel.sizes import CHANNELS, Size

_VALUES = 1 << 27  # numbers of images that are kept in memory and compared
_AT_ONCE = 1 << 22  # numbers that are compared at once


class Near(NamedTuple):
    """A training image, uint8 [H, W, C]."""

    image: Tensor
    name: str  # of its class; empty where it has none
    apart: float  # root mean square over its values, in levels of 0 to 255


class TrainingImages:
    """Training images of a block: all, or as many as fit in memory, evenly spread over it."""

    def __init__(self, block: Block, size: Size, channels: int, most: int = _VALUES) -> None:
        """BlockError where the block has no images like those that the model draws."""
        if block.channels != channels:
            has, needs = CHANNELS[block.channels], CHANNELS[channels]
            raise BlockError(f"{block.path} has {has} images, and the model draws {needs} ones: name its own by --data")
        block.shards(size)
        rows = block.rows("train")
        kept = max(1, min(len(rows), most // (size.height * size.width * channels)))
        chosen = rows[np.arange(kept) * len(rows) // kept]
        self.total = len(rows)
        self.images = torch.from_numpy(block.gather(size, chosen))
        self._labels, self._names = block.labels[chosen], block.classes

    def __len__(self) -> int:
        return len(self.images)

    def nearest(self, image: Tensor, k: int) -> list[Near]:
        """The `k` nearest to an image, uint8 [H, W, C], the nearest first; all of them where there are fewer."""
        parts = self.images.flatten(1).split(max(1, _AT_ONCE // image.numel()))
        apart = torch.cat([(part.float() - image.flatten().float()).square().mean(dim=1).sqrt() for part in parts])
        found = apart.topk(min(k, len(self)), largest=False)
        return [Near(self.images[row], self._name(row), float(apart[row])) for row in found.indices.tolist()]

    def _name(self, row: int) -> str:
        label = int(self._labels[row])
        return self._names[label] if label >= 0 else ""
