"""DCGAN: Radford, Metz & Chintala 2016, "Unsupervised Representation Learning with Deep Convolutional GANs".

Only strided convolutions, batch normalisation everywhere except at the generator's output and the discriminator's
input, ReLU in the generator, LeakyReLU(0.2) in the discriminator, weights from N(0, 0.02), Adam with beta1 = 0.5,
codes uniform in [-1, 1] (sections 3 and 4). With base_channels=128 the generator at 64 px is the paper's figure 1:
100 -> 4x4x1024 -> 8x8x512 -> 16x16x256 -> 32x32x128 -> 64x64x3; 64 is the width that most later code uses.
For other sizes and channels the smallest map differs (see base_map); the rest is the same.

`conditional` goes beyond the paper: the generator gets a learned code of the class beside z, and the discriminator adds
the product of the class's embedding and its last features, summed over the map (Miyato & Koyama 2018, "cGANs with
Projection Discriminator", figure 1d).
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.models.abilities import Inverts
from genmodel.models.contract import Adam, Family, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, uniform
from genmodel.models.parts.augment import Augmentation, augmented
from genmodel.models.parts.convolution import Down, Up, base_map
from genmodel.models.parts.labels import labels_for_fakes
from genmodel.models.parts.losses import discriminator_loss, frozen, non_saturating_loss, r1_penalty, widened
from genmodel.settings.config import Count, Positive, Range, Share
from genmodel.settings.schedule import Scheduled


@dataclass(frozen=True, kw_only=True)
class DCGANConfig:
    latent_dim: Count = 100
    base_channels: Count = 64  # of the widest map; doubled at each halving
    conditional: bool = False  # images of a class can be asked for
    generator_learning_rate: Positive = 2.0e-4
    discriminator_learning_rate: Positive = 2.0e-4
    beta1: Share = 0.5
    beta2: Annotated[float, Range(0, 0.999999)] = 0.999
    discriminator_steps: Count = 1  # discriminator updates, each on its own batch, per generator update
    r1: Annotated[float, Range(0)] = 0.0  # weight gamma of the R1 penalty; 0 leaves it out
    augment: Augmentation = Augmentation()  # noqa: RUF009  # of what the discriminator sees

    moved: ClassVar[Mapping[str, str]] = {"translate": "augment.translate"}


class Generator(nn.Module):
    """z [N, latent_dim], labels [N] if there are classes -> images [N, C, H, W] in [-1, 1]."""

    def __init__(self, config: DCGANConfig, spec: ImageSpec, classes: int = 0) -> None:
        super().__init__()
        self.base, times = base_map(spec.size, "dcgan")
        widths = [config.base_channels * 2**k for k in reversed(range(times))]
        self.embedding = nn.Embedding(classes, config.latent_dim) if classes else None
        inputs = config.latent_dim * (2 if classes else 1)
        self.project = nn.Linear(inputs, self.base.height * self.base.width * widths[0], bias=False)
        layers: list[nn.Module] = [nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)]
        for wide, narrow in itertools.pairwise(widths):
            layers += [
                Up(wide, narrow, bias=False),
                nn.BatchNorm2d(narrow),
                nn.ReLU(inplace=True),
            ]
        layers += [Up(widths[-1], spec.channels), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], 1)
        projected = self.project(z).view(z.shape[0], *self.base, -1).permute(0, 3, 1, 2)
        images: Tensor = self.layers(projected)
        return images


class Discriminator(nn.Module):
    """images [N, C, H, W], labels [N] if there are classes -> logits [N] that they are real.

    Without the class's product where a label is -1.
    """

    def __init__(self, config: DCGANConfig, spec: ImageSpec, classes: int = 0) -> None:
        super().__init__()
        base, times = base_map(spec.size, "dcgan")
        widths = [config.base_channels * 2**k for k in range(times)]
        layers: list[nn.Module] = [Down(spec.channels, widths[0]), nn.LeakyReLU(0.2, inplace=True)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [
                Down(narrow, wide, bias=False),
                nn.BatchNorm2d(wide),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        layers += [nn.Conv2d(widths[-1], 1, base)]
        self.layers = nn.Sequential(*layers)
        self.embedding = nn.Embedding(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        maps = self.layers[:-1](images)
        logits: Tensor = self.layers[-1](maps).flatten()
        if self.embedding is None or labels is None:
            return logits
        products = (self.embedding(labels.clamp(min=0)) * widened(maps).sum((2, 3))).sum(1)
        return widened(logits) + torch.where(labels < 0, 0.0, products)


class DCGAN(Family, Inverts):
    Config: ClassVar[type] = DCGANConfig
    clock: ClassVar[Literal["linear", "log"]] = "linear"

    def __init__(self, config: DCGANConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        if config.conditional and spec.classes < 2:
            raise ConfigError(
                f"dcgan cannot be conditional on the classes of a block that has {spec.classes or 'none'}: set"
                " network.conditional to false, or prepare the data with classes"
            )
        self.classes = spec.classes if config.conditional else 0
        self.space = Space((uniform(config.latent_dim),))
        self.generator = Generator(config, spec, self.classes)
        self.discriminator = Discriminator(config, spec, self.classes)

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "dcgan")

    def initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02, generator=rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.weight, 1, 0.02, generator=rng)
                nn.init.zeros_(module.bias)
        if self.generator.embedding is not None and self.discriminator.embedding is not None:
            # a tenth of z: a class as loud as z soon leaves z without effect (one image a class, on the digits)
            nn.init.uniform_(self.generator.embedding.weight, -0.1, 0.1, generator=rng)
            nn.init.normal_(self.discriminator.embedding.weight, 0, 0.02, generator=rng)

    def players(self) -> Sequence[Player]:
        config, betas = self.config, (self.config.beta1, self.config.beta2)
        return [
            Player("generator", [self.generator], Adam(lr=config.generator_learning_rate, betas=betas)),
            Player("discriminator", [self.discriminator], Adam(lr=config.discriminator_learning_rate, betas=betas)),
        ]

    def updates(self) -> Sequence[Update]:
        discriminator = Update("discriminator", self._discriminator_loss)
        generator = Update("generator", self._generator_loss, new_batch=False)
        return [*[discriminator] * self.config.discriminator_steps, generator]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"augmentation": self.config.augment.probability}

    def _discriminator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        images = step.batch.images
        fake_images = step.keep("fake_images", lambda: self._fakes(step))
        images.requires_grad_(self.config.r1 > 0)
        real_logits = self._judge(images, step)
        fake_logits = self._judge(fake_images.detach(), step)
        loss = discriminator_loss(real_logits, fake_logits)
        metrics = {
            "loss/discriminator": loss.detach(),
            "score/real": real_logits.detach().sigmoid().mean(),
            "score/fake": fake_logits.detach().sigmoid().mean(),
        }
        if self.config.r1 > 0:
            penalty = r1_penalty(real_logits, images)
            metrics["loss/r1"] = penalty.detach()
            loss = loss + 0.5 * self.config.r1 * penalty
        return loss, metrics

    def _generator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        """On the fake images of the discriminator's last pass, if they were kept.

        The discriminator is frozen: its own gradients, unused here, would take a third of the backward pass.
        """
        fake_images = step.take("fake_images", lambda: self._fakes(step))
        with frozen(self.discriminator):
            loss = non_saturating_loss(self._judge(fake_images, step))
        return loss, {"loss/generator": loss.detach()}

    def _fakes(self, step: Step) -> Tensor:
        z, labels = step.noise.of(self.space, len(step.batch.images)), step.batch.labels
        if self.classes:
            labels = labels_for_fakes(labels, self.classes, step.noise)
        images: Tensor = self.generator(z, labels)
        return images

    def _judge(self, images: Tensor, step: Step) -> Tensor:
        """Logits of the batch's images or of as many fakes, each with its label; with none where it is withheld, so
        that fakes are as often judged by class as real images are."""
        seen = augmented(images, self.config.augment, step)
        return widened(self.discriminator(seen, step.batch.labels))

    @property
    def averaged(self) -> nn.Module:
        return self.generator

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise, labels)
        return images
