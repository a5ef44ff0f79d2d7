"""What the images are compared by beside their colours: the features that judge the models, or else coarse pixels."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from genmodel.data.block import Block
from genmodel.devices import choose_device
from genmodel.errors import GenmodelError
from genmodel.evaluation.extractors.features import BATCH_SIZE, Extractor, extract
from genmodel.evaluation.reference import Reference
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

_COARSE = 8  # pixels a side


class Eye(NamedTuple):
    """How images are looked at."""

    size: Size  # at which they are taken from the block
    extractor: Extractor | None  # None: coarse pixels
    why: str = ""  # there is no extractor

    @property
    def in_words(self) -> str:
        if self.extractor is None:
            return f"pixels averaged to {_COARSE} x {_COARSE} ({self.why})"
        return f"features of the extractor {self.extractor.name} {self.extractor.fingerprint[:8]}"

    def features(self, images: NDArray[np.uint8]) -> Tensor:
        """Of uint8 [N, H, W, C] images: float [N, d]."""
        if self.extractor is not None:
            device = choose_device()
            return extract(self.extractor.to(device), _batches(images), device).values
        parts = [adaptive_avg_pool2d(batch.permute(0, 3, 1, 2).float(), _COARSE) for batch in _batches(images)]
        return torch.cat(parts).flatten(1) / 255


def _batches(images: NDArray[np.uint8]) -> Iterator[Tensor]:
    return (torch.from_numpy(images[start : start + BATCH_SIZE]) for start in range(0, len(images), BATCH_SIZE))


def eye(block: Block, reference: Path, config: EvaluationConfig) -> Eye:
    """The extractor of the folder `reference`, if it is there and was made for such images."""
    smallest = min(block.sizes)
    if not (reference / "reference.json").exists():
        return Eye(smallest, None, f"{reference.name}/ is not there yet: its extractor would be used")
    try:
        real = Reference.open(reference)
        if real.image_size not in block.sizes or real.channels != block.channels:
            return Eye(smallest, None, "the extractor is for images of another shape")
        return Eye(real.image_size, real.extractor(config))
    except GenmodelError as error:  # the stage `reference` makes another, or says what to do
        return Eye(smallest, None, f"its extractor cannot be used: {error}")
