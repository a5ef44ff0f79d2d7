"""Salimans, Goodfellow, Zaremba, Cheung, Radford & Chen 2016, "Improved Techniques for Training GANs".

A plain GAN with five techniques, each of which is off unless a setting switches it on: feature matching (section 3.1),
minibatch discrimination (3.2), historical averaging (3.3), one-sided label smoothing (3.4) and virtual batch
normalisation (3.5, in the generator, as there). With `semi_supervised` the discriminator also learns the block's
classes (section 5): from few labels, as `training.labelled` leaves them, and from all images.

The discriminator is weight-normalised (Salimans & Kingma 2016), as in the authors' code; presets/mnist-100-labels.yaml
holds the settings that classify MNIST by 100 labels, benchmarks/semi_supervised.py measures how well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.models.abilities import Classifies, Inverts
from genmodel.models.contract import Adam, Batch, Family, ImageSpec, Loss, Noise, Player, Step, Update
from genmodel.models.noise import Space, uniform
from genmodel.models.parts.augment import Augmentation, augmented
from genmodel.models.parts.convolution import base_map
from genmodel.models.parts.improved_gan import dense_and_strided as networks
from genmodel.models.parts.improved_gan.history import History
from genmodel.models.parts.improved_gan.labelled import LabelledMemory
from genmodel.models.parts.improved_gan.minibatch import MinibatchDiscrimination
from genmodel.models.parts.improved_gan.semi_supervised import (
    class_loss,
    feature_matching_loss,
    log_odds,
    smoothed_discriminator_loss,
)
from genmodel.models.parts.losses import frozen, non_saturating_loss, widened
from genmodel.pixels import to_model
from genmodel.settings.config import Count, Positive, Range, Share
from genmodel.settings.schedule import Scheduled

_REFERENCE = 64  # codes of the reference batch


@dataclass(frozen=True, kw_only=True)
class ImprovedGANConfig:
    network: Literal["convolutional", "fully_connected"] = "convolutional"
    latent_dim: Count = 100
    base_channels: Count = 64  # convolutional: of the widest map; doubled at each halving
    width: Annotated[int, Range(4)] = 1000  # fully connected: of the discriminator's first layer, others follow from it
    generator_learning_rate: Positive = 3.0e-4
    discriminator_learning_rate: Positive = 3.0e-4
    beta1: Share = 0.5
    feature_matching: bool = False  # in place of the non-saturating loss
    minibatch_discrimination: bool = False
    minibatch_kernels: Count = 100
    minibatch_dimensions: Count = 5  # of each kernel
    historical_averaging: Annotated[float, Range(0)] = 0.0  # weight of the term; 0 leaves it out
    real_target: Annotated[float, Range(0.5, 1)] = 1.0  # below 1, say 0.9: one-sided label smoothing
    virtual_batch_norm: bool = False  # else batch normalisation
    pixel_noise: Annotated[float, Range(0)] = 0.0  # deviation of what the discriminator's input gets, pixels in [0, 1]
    feature_noise: Annotated[float, Range(0)] = 0.0  # of what each of its hidden layers' output gets
    semi_supervised: bool = False  # needs a block with classes
    labelled_memory: Count = 100  # the latest labelled images that classes are learned from; in the model's file
    unlabelled_weight: Annotated[float, Range(0)] = 1.0  # of the loss on unlabelled images and fakes; 0: labels alone
    augment: Augmentation = Augmentation()  # noqa: RUF009  # of all that the discriminator sees


class ImprovedGAN(Family, Inverts):
    Config: ClassVar[type] = ImprovedGANConfig
    clock: ClassVar[Literal["linear", "log"]] = "linear"
    first_images = 500

    def __init__(self, config: ImprovedGANConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        self.check(spec)
        if config.semi_supervised and spec.classes < 2:
            raise ConfigError(
                f"network.semi_supervised needs a block with at least two classes, and this one has {spec.classes}:"
                " leave it out, or prepare the data with classes"
            )
        self.space = Space((uniform(config.latent_dim),))
        reference = _REFERENCE if config.virtual_batch_norm else 0
        if config.network == "fully_connected":
            self.generator = networks.dense_generator(config.width // 2, config.latent_dim, reference, spec)
            hidden, features = networks.dense_layers(config.width, spec)
        else:
            self.generator = networks.strided_generator(config.base_channels, config.latent_dim, reference, spec)
            hidden, features = networks.strided_layers(config.base_channels, spec)
        minibatch = None
        if config.minibatch_discrimination:
            minibatch = MinibatchDiscrimination(features, config.minibatch_kernels, config.minibatch_dimensions)
        outputs = spec.classes if config.semi_supervised else 1
        noise = (config.pixel_noise, config.feature_noise)
        self.discriminator = networks.Discriminator(hidden, features, outputs, noise, minibatch)
        self.histories = nn.ModuleDict()
        if config.historical_averaging > 0:
            self.histories.update({player.name: History(player.parameters()) for player in self.players()})
        if config.semi_supervised:
            self.__class__ = SemiSupervised  # callers ask for an ability by isinstance
            self.memory = LabelledMemory(config.labelled_memory, spec)

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "improved_gan")  # the same for both networks: it is asked before the settings are known

    def initialise(self, rng: torch.Generator) -> None:
        networks.initialise(self, rng)

    def begin(self, batch: Batch) -> None:
        """Fit the discriminator's layers to real images, with the noise that it will get."""
        rng = torch.Generator(batch.images.device).manual_seed(0)
        self.discriminator.fit(batch.images, Step(batch, Noise(rng)))

    def players(self) -> Sequence[Player]:
        config, betas = self.config, (self.config.beta1, 0.999)
        return [
            Player("generator", [self.generator], Adam(lr=config.generator_learning_rate, betas=betas)),
            Player("discriminator", [self.discriminator], Adam(lr=config.discriminator_learning_rate, betas=betas)),
        ]

    def updates(self) -> Sequence[Update]:
        generator, discriminator = self.players()
        return [
            Update("discriminator", self._drawn_inwards(discriminator, self._discriminator_loss)),
            Update("generator", self._drawn_inwards(generator, self._generator_loss), new_batch=False),
        ]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"augmentation": self.config.augment.probability}

    def _drawn_inwards(self, player: Player, loss: Loss) -> Loss:
        """A player's loss with the term of historical averaging, if that is on."""
        if player.name not in self.histories:
            return loss
        history = self.histories[player.name]
        assert isinstance(history, History)

        def with_history(step: Step) -> tuple[Tensor, dict[str, Tensor]]:
            value, metrics = loss(step)
            distance = history.distance(player.parameters())
            told = {f"loss/{player.name}_history": distance.detach()}
            return value + self.config.historical_averaging * distance, metrics | told

        return with_history

    def _discriminator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        fakes = step.keep("fakes", lambda: self._fakes(step))
        real = self._odds(step.batch.images, step, real=True)
        fake = self._odds(fakes.detach(), step)
        loss = smoothed_discriminator_loss(real, fake, self.config.real_target)
        return loss, {
            "loss/discriminator": loss.detach(),
            "score/real": real.detach().sigmoid().mean(),
            "score/fake": fake.detach().sigmoid().mean(),
        }

    def _generator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """On the fakes of the discriminator's update, if they were kept; the discriminator is frozen, as its gradients
        are not used here."""
        fakes = step.take("fakes", lambda: self._fakes(step))
        with frozen(self.discriminator):
            if self.config.feature_matching:
                with torch.no_grad():
                    real = self._mean_features(step.batch.images, step)
                loss = feature_matching_loss(real, self._mean_features(fakes, step))
            else:
                loss = non_saturating_loss(self._odds(fakes, step))
        return loss, {"loss/generator": loss.detach()}

    def _fakes(self, step: Step) -> Tensor:
        images: Tensor = self.generator(step.noise.of(self.space, len(step.batch.images)))
        return images

    def _odds(self, images: Tensor, step: Step, real: bool = False) -> Tensor:
        """Log-odds [N] that images are real."""
        return log_odds(widened(self._judge(images, step, real)[1]))

    def _judge(self, images: Tensor, step: Step, real: bool = False) -> tuple[Tensor, Tensor]:
        """Features and logits."""
        features, logits = self.discriminator(augmented(images, self.config.augment, step), step, real)
        return features, logits

    def _mean_features(self, images: Tensor, step: Step) -> Tensor:
        """Over the whole batch, [features]."""
        features = widened(self._judge(images, step)[0])
        return step.gather(features.mean(0, keepdim=True)).mean(0)

    @property
    def averaged(self) -> nn.Module:
        return self.generator

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise)
        return images


class SemiSupervised(ImprovedGAN, Classifies):
    """An ImprovedGAN whose discriminator has a logit for each class; it becomes one by `semi_supervised`."""

    def begin(self, batch: Batch) -> None:
        super().begin(batch)
        self.memory.add(Step(batch, Noise(torch.Generator())))

    def _discriminator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        self.memory.add(step)
        loss, metrics = super()._discriminator_loss(step)
        labelled = self.memory.draw(len(step.batch.images), step.noise)
        wrong = class_loss(widened(self._judge(labelled.images, step)[1]), labelled.labels)
        metrics["loss/class"] = wrong.detach()
        return wrong + 0.5 * self.config.unlabelled_weight * loss, metrics

    @property
    def averaged(self) -> nn.Module:
        return self

    def classify(self, images: Tensor) -> Tensor:
        logits: Tensor = self.discriminator(to_model(images), None)[1]
        return logits
