"""Autoregressive, row after row: the noise is what pixels are drawn with, and the likelihood is exact."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genmodel.models.abilities import Completes, Likelihood
from genmodel.models.contract import Adam, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, uniform
from genmodel.models.parts.losses import bits_per_dim, discretised_logistic_nll
from genmodel.pixels import to_model
from toys.layers import NoSettings, ToyFamily


class Toy(ToyFamily, Likelihood, Completes):
    def __init__(self, config: NoSettings, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((uniform(spec.channels, *spec.size),), meaningful=False)
        self.next_row = torch.nn.Linear(*[spec.channels * spec.size.width] * 2)

    def players(self) -> Sequence[Player]:
        return [Player("predictor", [self], Adam(lr=1e-2))]

    def updates(self) -> Sequence[Update]:
        return [Update("predictor", self._loss)]

    def _mean_of_row(self, above: Tensor) -> Tensor:
        mean: Tensor = self.next_row(above.flatten(1)).tanh()
        return mean.view_as(above)

    def _bits(self, images: Tensor) -> Tensor:
        above = torch.cat([torch.zeros_like(images[:, :, :1]), images[:, :, :-1]], dim=2)
        means = torch.stack([self._mean_of_row(row) for row in above.unbind(2)], dim=2)
        return bits_per_dim(discretised_logistic_nll(images, means, torch.full((), -1.0)), images[0].numel())

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        loss = self._bits(step.batch.images).mean()
        return loss, {"loss/bits": loss.detach()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        unknown = torch.zeros(noise.shape[0], self.spec.channels, *self.image_size, device=noise.device)
        return self._drawn(unknown, torch.zeros_like(unknown[:, 0], dtype=torch.bool), noise)

    def _drawn(self, images: Tensor, known: Tensor, noise: Tensor) -> Tensor:
        points = (0.5 + 0.499 * self.space.split(noise)[0]).logit()
        rows: list[Tensor] = []
        for row in range(self.image_size.height):
            mean = self._mean_of_row(rows[-1] if rows else torch.zeros_like(images[:, :, 0]))
            drawn = (mean + math.exp(-1) * points[:, :, row]).clamp(-1, 1)
            rows.append(torch.where(known[:, None, row], images[:, :, row], drawn))
        return torch.stack(rows, dim=2)

    def bits(self, images: Tensor, labels: Tensor) -> Tensor:
        return self._bits(to_model(images))

    def complete(self, images: Tensor, known: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        return self._drawn(to_model(images), known, noise)
