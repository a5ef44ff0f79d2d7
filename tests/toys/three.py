"""Three players, one of them moved by Adamax: a critic between a generator and an encoder, and what both agree in."""

from collections.abc import Sequence

from torch import Tensor

from genmodel.models.abilities import Inverts, Reconstructs
from genmodel.models.contract import Adam, Adamax, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.losses import discriminator_loss, frozen, non_saturating_loss
from genmodel.pixels import to_model
from toys.layers import NoSettings, Pixels, Summary, ToyFamily


class Toy(ToyFamily, Reconstructs, Inverts):
    def __init__(self, config: NoSettings, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.space = Space((normal(5),))
        self.generator, self.encoder = Pixels(5, spec), Summary(5, spec)
        self.critic = Summary(1, spec)

    def players(self) -> Sequence[Player]:
        parts = {"critic": self.critic, "generator": self.generator}
        moved = [Player(name, [part], Adam(lr=1e-3, betas=(0.5, 0.999))) for name, part in parts.items()]
        return [*moved, Player("encoder", [self.encoder], Adamax(lr=2e-3))]

    def updates(self) -> Sequence[Update]:
        maker = Update("generator", self._maker, new_batch=False)
        return [Update("critic", self._critic), maker, Update("encoder", self._finder)]

    def _critic(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        fakes = step.keep("fakes", lambda: self._fakes(step))
        loss = discriminator_loss(self.critic(step.batch.images), self.critic(fakes.detach()))
        return loss, {"loss/critic": loss.detach()}

    def _maker(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        with frozen(self.critic):
            loss = non_saturating_loss(self.critic(step.take("fakes", lambda: self._fakes(step))))
        return loss, {"loss/generator": loss.detach()}

    def _fakes(self, step: Step) -> Tensor:
        return self.sample(step.noise.of(self.space, len(step.batch.images)))

    def _finder(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        codes = step.gather(self.encoder(step.batch.images))  # of the whole batch: its spread is the prior's
        apart = (self.generator(self.encoder(step.batch.images)) - step.batch.images).square().mean()
        loss = apart + (codes.std(0, correction=0) - 1).square().mean()
        return loss, {"loss/encoder": loss.detach()}

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise)
        return images

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        code: Tensor = self.encoder(to_model(images))
        return code

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.sample(self.encode(images, labels))
