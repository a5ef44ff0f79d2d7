"""Extractors: from images to the features and class logits that figures are computed from.

An extractor is identified by name and fingerprint: figures with different fingerprints are never compared.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from genmodel.data.block import SPLITS, Block
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

BATCH_SIZE = 256  # the same everywhere, so that features are bit-identical for every caller


class Features(NamedTuple):
    """Of N images: features float32 [N, dim], and logits float32 [N, classes] if the extractor classifies."""

    values: Tensor
    logits: Tensor | None


class Extractor(nn.Module, ABC):
    """A frozen network that judges images; each image's features do not depend on the others in the batch."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # of its code: a reference of another one is made again
    dim: int
    classes: Sequence[str] = ()  # names of the block's classes that its logits are for, if they are

    @classmethod
    @abstractmethod
    def make(cls, block: Block, image_size: Size, config: EvaluationConfig, device: str) -> Self:
        """The extractor for a block's images; EvaluationError if it cannot be made."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, about: Mapping[str, Any], config: EvaluationConfig) -> Self:
        """The extractor that made the reference in `folder`, whose reference.json is `about`."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """sha256 over the architecture's version and the weights."""

    @abstractmethod
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Features and logits of uint8 [N, H, W, C] images."""

    def weights(self) -> dict[str, Tensor]:
        """The weights that the reference's folder must keep to load it again."""
        return {}

    def about(self) -> dict[str, Any]:
        """Its entry in reference.json."""
        return {"name": self.name, "version": self.version, "fingerprint": self.fingerprint, "dim": self.dim}


@torch.inference_mode()
def extract(extractor: Extractor, batches: Iterable[Tensor], device: str = "cpu") -> Features:
    """Features and logits, on the CPU, of all images in batches of uint8 [B, H, W, C]."""
    parts = [extractor(images.to(device)) for images in batches]
    values = torch.cat([values.float().cpu() for values, _ in parts])
    logits = [logits.float().cpu() for _, logits in parts if logits is not None]
    return Features(values, torch.cat(logits) if logits else None)


def spread(rows: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """At most `n` of `rows`, evenly spaced: rows are sorted by class, so every class keeps its share."""
    n = min(n, len(rows))
    return rows[np.arange(n) * len(rows) // max(n, 1)]


def held_out_rows(block: Block, n: int) -> NDArray[np.int64]:
    """At most `n` rows of the val split, which no model is trained on; none if the block holds nothing out."""
    return spread(np.flatnonzero(block.splits == SPLITS["val"]), n)


def image_batches(block: Block, image_size: Size, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """The block's images in `rows`, in that order, as uint8 [B, H, W, C] batches."""
    for start in range(0, len(rows), BATCH_SIZE):
        yield torch.from_numpy(block.gather(image_size, rows[start : start + BATCH_SIZE]))
