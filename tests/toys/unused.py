"""Parameters that a loss does not reach in every step: an encoder of one class alone, and a head for the start."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genmodel.models.contract import Adam, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.settings.schedule import Schedule, Scheduled
from toys.layers import NoSettings, Pixels, Summary, ToyFamily


class Toy(ToyFamily):
    def __init__(self, config: NoSettings, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((normal(5),))
        self.encoder, self.decoder = Summary(5, spec), Pixels(5, spec)
        self.second, self.colour = Summary(5, spec), torch.nn.Linear(5, spec.channels)

    def players(self) -> Sequence[Player]:
        return [Player("autoencoder", [self], Adam(lr=1e-3))]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"colour": Schedule(1.0, 0.0, 100)}

    def updates(self) -> Sequence[Update]:
        return [Update("autoencoder", self._loss)]

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        images, chosen = step.batch.images, (step.batch.labels == 1).nonzero()[:, 0]
        code = self.encoder(images)
        if len(chosen):  # one process may have images of this class while another has none
            code = code.index_add(0, chosen, self.second(images[chosen]))
        noisy = code + step.noise.of(self.space, len(code))
        loss = (self.decoder(noisy) - images).square().mean() + 0.1 * code.square().mean()
        if step.knobs["colour"] > 0:  # no process reaches the head once its weight is 0
            loss = loss + step.knobs["colour"] * (self.colour(code) - images.mean((2, 3))).square().mean()
        return loss, {"loss/total": loss.detach()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.decoder(noise)
        return images
