"""What is asked of a model: images of a seed and a class; which codes that means, and in which batches they are drawn.

What images are drawn from are codes, float32 [N, width]: a row of noise an image (Space), and for a conditional model
its class as a last number. They go through a generator BATCH at a time, and a smaller number is filled up to that: a
matrix product of another height may round otherwise, and image i of a request is the same, bit by bit, whatever is
asked for beside it.

This file needs numpy, torch and genmodel/models/noise.py alone: a copy of both is shipped in each registered model
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
    """The codes of images 0 .. n - 1 of `seed`, float32 [n, space.width], and a column more for a conditional model.

    `shares`: how often each class comes where none is asked for; empty for a model that is not conditional.
    `label`: the class of all of them.
    """
    seeds = image_seeds(seed, n)
    drawn = space.draw(seeds)
    if len(shares):
        labels = draw_labels(seeds, shares) if label is None else np.full(n, label)
        drawn = np.concatenate([drawn, labels[:, None].astype(np.float32)], axis=1)
    return torch.from_numpy(drawn)


def in_batches(draw: Callable[[Tensor], Tensor], codes: Tensor) -> Tensor:
    """draw(codes), BATCH rows at a time, the last one repeated where they are fewer."""
    made = []
    for part in codes.split(BATCH):
        filled = torch.cat([part, part[-1:].expand(BATCH - len(part), -1)])
        made.append(draw(filled)[: len(part)])
    return torch.cat(made)


def find_class(names: Sequence[str], asked: object) -> int:
    """The class whose name is `asked`, or else whose number is; `names` are empty for a model that is not conditional.

    ValueError, with names that are near, where there is none.
    """
    if not names:
        raise ValueError("it is not conditional: no class can be asked of it")
    text = str(asked)[:100]
    numbers = [str(number) for number in range(len(names))]
    for known in (names, numbers):
        if text in known:
            return known.index(text)
    near = " or ".join(map(repr, difflib.get_close_matches(text, names)))
    raise ValueError(
        f"it has no class {text!r}"
        + (f"; did you mean {near}?" if near else f": its {len(names)} classes are numbered from 0")
    )
