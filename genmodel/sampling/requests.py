"""Requests to a model, by seed and class: which codes they mean, and in which batches they are drawn.

Images are drawn from codes, float32 [N, width]: a row of noise per image (Space), and for a conditional model its class
as the last number. They go through a generator BATCH at a time, and a smaller batch is padded to that size: a matrix
product of another height may round differently, and image i of a request must be bit-identical whatever else is
requested.

This file needs only numpy, torch and genmodel/models/noise.py: a copy of both files is shipped in each registered model
(flows/registry/packaging.py).
"""

import difflib
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from genmodel.models.noise import Space, draw_labels, image_seeds

BATCH = 64  # images that go through a generator at once


def codes(space: Space, shares: Sequence[float], n: int, seed: int, label: int | None = None) -> Tensor:
    """The codes of images 0 .. n - 1 of `seed`, float32 [n, space.width], plus a column for a conditional model.

    `shares`: how often each class is drawn if none is asked for; empty for an unconditional model.
    `label`: the class of all of them.
    """
    seeds = image_seeds(seed, n)
    drawn = space.draw(seeds)
    if len(shares):
        labels = draw_labels(seeds, shares) if label is None else np.full(n, label)
        drawn = np.concatenate([drawn, labels[:, None].astype(np.float32)], axis=1)
    return torch.from_numpy(drawn)


def in_batches(draw: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
    """draw(codes), BATCH rows at a time; a shorter batch is padded with its last row."""
    made = []
    for part in codes.split(BATCH):
        filled = torch.cat([part, part[-1:].expand(BATCH - len(part), -1)])
        made.append(draw(filled)[: len(part)])
    return torch.cat(made)


def find_class(names: Sequence[str], asked: object) -> int:
    """The class whose name is `asked`, or else whose number is; `names` is empty for an unconditional model.

    ValueError, with similar names, if there is none.
    """
    if not names:
        raise ValueError("it is not conditional: leave out the class")
    text = str(asked)[:100]
    numbers = [str(number) for number in range(len(names))]
    for known in (names, numbers):
        if text in known:
            return known.index(text)
    near = " or ".join(map(repr, difflib.get_close_matches(text, names)))
    raise ValueError(
        f"it has no class {text!r}"
        + (f"; did you mean {near}?" if near else f": its classes are numbered 0 to {len(names) - 1}")
    )
