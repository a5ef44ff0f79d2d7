"""Labels for images that a conditional model makes in training."""

import torch
from torch import Tensor

from genmodel.models.contract import Noise


def labels_for_fakes(labels: Tensor, classes: int, noise: Noise) -> Tensor:
    """The batch's labels [N], so that classes are as frequent as in the data; any class where one is withheld (-1)."""
    drawn = noise.rows(len(labels), lambda n, rng: torch.randint(classes, (n,), generator=rng, device=rng.device))
    return torch.where(labels < 0, drawn, labels)
