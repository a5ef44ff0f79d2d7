"""The latest images that had a label. Where few have one, most batches hold none or one: a class is learned from these
instead."""

import torch
from torch import Tensor, nn

from genmodel import pixels
from genmodel.models.contract import Batch, ImageSpec, Noise, Step


class LabelledMemory(nn.Module):
    """The latest `capacity` labelled images that a training has seen, the newest first; in buffers."""

    def __init__(self, capacity: int, spec: ImageSpec) -> None:
        super().__init__()
        self.images: Tensor
        self.labels: Tensor
        self.register_buffer("images", torch.zeros(capacity, *spec.size, spec.channels, dtype=torch.uint8))
        self.register_buffer("labels", torch.full((capacity,), -1))

    @torch.no_grad()
    def add(self, step: Step) -> None:
        """Take in the labelled images of the whole batch."""
        images = torch.cat([pixels.to_uint8(step.gather(step.batch.images)), self.images])
        labels = torch.cat([step.gather(step.batch.labels), self.labels])
        # a sort and no choice of rows, whose number a captured step could not see change
        chosen = torch.sort((labels < 0).to(torch.uint8), stable=True).indices[: len(self.labels)]
        self.images.copy_(images[chosen])
        self.labels.copy_(labels[chosen])

    @torch.no_grad()
    def draw(self, count: int, noise: Noise) -> Batch:
        """`count` images for this process, drawn with replacement; while there are none all labels are -1."""
        points = noise.rows(count, lambda n, rng: torch.rand(n, generator=rng, device=rng.device))
        known = (self.labels >= 0).sum()
        places = (points * known).long().clamp(max=(known - 1).clamp(min=0))
        return Batch(pixels.to_model(self.images[places]), self.labels[places])
