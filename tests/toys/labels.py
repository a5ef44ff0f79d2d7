"""Labels, of which most are withheld: an autoencoder whose code must also tell the class where it is known."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from genmodel.models.abilities import Classifies, Reconstructs
from genmodel.models.contract import Adam, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.pixels import to_model
from toys.layers import NoSettings, Pixels, Summary, ToyFamily


class Toy(ToyFamily, Classifies, Reconstructs):
    def __init__(self, config: NoSettings, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((normal(5),))
        self.encoder, self.decoder = Summary(5, spec), Pixels(5, spec)
        self.head = torch.nn.Linear(5, max(1, spec.classes))

    def players(self) -> Sequence[Player]:
        return [Player("autoencoder", [self], Adam(lr=1e-3))]

    def updates(self) -> Sequence[Update]:
        return [Update("autoencoder", self._loss)]

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        code = self.encoder(step.batch.images)
        noisy = code + step.noise.of(self.space, len(code))
        distortion = (self.decoder(noisy) - step.batch.images).square().mean() + 0.1 * code.square().mean()
        known = (step.batch.labels >= 0).float()
        wrong = F.cross_entropy(self.head(code), step.batch.labels.clamp(min=0), reduction="none")
        surprise = (known * wrong).mean()
        told = {"loss/distortion": distortion, "loss/surprise": surprise, "score/labelled": known.mean()}
        return distortion + surprise, {name: value.detach() for name, value in told.items()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.decoder(noise)
        return images

    def classify(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(to_model(images)))
        return logits

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        code: Tensor = self.encoder(to_model(images))
        return code

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.sample(self.encode(images, labels))
