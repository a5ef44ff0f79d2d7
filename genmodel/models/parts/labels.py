"""The labels of a conditional model: for images that it makes in training, and as vectors."""

import torch
from torch import Tensor, nn

from genmodel.models.contract import Noise


def labels_for_fakes(labels: Tensor, classes: int, noise: Noise) -> Tensor:
    """The batch's labels [N], so that classes are as frequent as in the data; any class where one is withheld (-1)."""
    drawn = noise.rows(len(labels), lambda n, rng: torch.randint(classes, (n,), generator=rng, device=rng.device))
    return torch.where(labels < 0, drawn, labels)


class LabelEmbedding(nn.Embedding):
    """labels int64 [N] -> [N, width]; the mean of all classes where a label is not known (-1)."""

    def forward(self, labels: Tensor) -> Tensor:
        known = self.weight
        return torch.cat([known, known.mean(0, keepdim=True)])[labels]
