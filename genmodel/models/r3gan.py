"""R3GAN: Huang, Gokaslan, Kuleshov and Tompkin 2024, "The GAN is dead; long live the GAN! A Modern Baseline GAN".

A relativistic pairing loss with gradient penalties on real and on fake images (R1 and R2) at every update, and two
residual networks without normalisation. The defaults are the paper's for CIFAR-10; that is 32 px: gamma grows about
with the number of pixels, and the schedules' `over` with the budget.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.models.abilities import Inverts
from genmodel.models.contract import Adam, Family, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.augment import Augmentation, augmented
from genmodel.models.parts.convolution import base_map
from genmodel.models.parts.labels import labels_for_fakes
from genmodel.models.parts.losses import frozen, r1_penalty, widened
from genmodel.models.parts.residual import Grouped, Resample, only_images
from genmodel.settings.config import Count, Range
from genmodel.settings.schedule import Schedule, Scheduled
from genmodel.sizes import Size

_SLOPE = 0.2  # of LeakyReLU below 0
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # what keeps the variance through LeakyReLU
_OVER = 20_000_000  # images that the published schedules take


@dataclass(frozen=True, kw_only=True)
class R3GANConfig:
    latent_dim: Count = 64
    base_channels: Count = 768  # of the largest map; doubled at each halving, up to max_channels
    max_channels: Count = 768
    blocks: Count = 2  # residual blocks at each size
    group_channels: Count = 16  # that a grouped convolution mixes
    conditional: bool = False  # images of a class can be asked for
    augment: Augmentation = Augmentation()  # noqa: RUF009  # of what the discriminator sees
    learning_rate: Annotated[float | Schedule, Range(1e-12)] = Schedule(2e-4, 5e-5, _OVER)
    beta2: Annotated[float | Schedule, Range(0, 0.999999)] = Schedule(0.9, 0.99, _OVER)
    gamma: Annotated[float | Schedule, Range(0)] = Schedule(0.05, 0.005, _OVER)  # weight of both penalties


class Block(nn.Module):
    """Maps [N, H, W, C] plus what a 1x1, a grouped 3x3 at twice the width, and a 1x1 convolution make of them.

    Biases belong to the activations: the last convolution has none.
    """

    def __init__(self, channels: int, group_channels: int) -> None:
        super().__init__()
        inner = 2 * channels
        self.widen = nn.Linear(channels, inner)
        self.mix = Grouped(inner, inner // math.gcd(inner, group_channels))
        self.narrow = nn.Linear(inner, channels, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        inner = F.leaky_relu(self.mix(F.leaky_relu(self.widen(maps), _SLOPE)), _SLOPE)
        made: Tensor = maps + self.narrow(inner)
        return made

    @torch.no_grad()
    def scale(self, gain: float) -> None:
        """Begin as the identity, with `gain` in each convolution before an activation."""
        self.widen.weight.mul_(gain)
        self.mix.weight.mul_(gain)
        self.narrow.weight.zero_()


class Generator(nn.Module):
    """z [N, latent_dim], labels [N] if conditional -> images [N, C, H, W], not bounded."""

    def __init__(self, config: R3GANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        base, widths = _stages(config, spec)
        self.embedding = nn.Embedding(classes, config.latent_dim) if classes else None
        self.project = nn.Linear(config.latent_dim * (2 if classes else 1), widths[0], bias=False)
        self.basis = nn.Parameter(torch.empty(*base, widths[0]))
        layers = _blocks(config, widths[0])
        for wide, narrow in itertools.pairwise(widths):
            layers += [Resample(wide, narrow, up=True), *_blocks(config, narrow)]
        self.layers = nn.Sequential(*layers, nn.Linear(widths[-1], spec.channels, bias=False))

    def forward(self, z: Tensor, labels: Tensor | None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(labels)], dim=1)
        images: Tensor = self.layers(self.basis * self.project(z)[:, None, None])
        return images.permute(0, 3, 1, 2)


class Discriminator(nn.Module):
    """images [N, C, H, W], labels [N] -> logits [N], of which only differences mean something.

    If conditional, the logit is a product with the class's embedding (Miyato & Koyama 2018): with the mean of all
    embeddings where the label is -1.
    """

    def __init__(self, config: R3GANConfig, spec: ImageSpec, classes: int) -> None:
        super().__init__()
        base, widths = _stages(config, spec)
        layers: list[nn.Module] = [nn.Linear(spec.channels, widths[-1], bias=False)]
        for narrow, wide in itertools.pairwise(reversed(widths)):
            layers += [*_blocks(config, narrow), Resample(narrow, wide, up=False)]
        self.layers = nn.Sequential(*layers, *_blocks(config, widths[0]))
        self.basis = nn.Parameter(torch.empty(*base, widths[0]))
        self.project = nn.Linear(widths[0], config.latent_dim if classes else 1, bias=False)
        self.embedding = nn.Embedding(classes, config.latent_dim) if classes else None

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        maps = self.layers(images.permute(0, 2, 3, 1))
        found = widened(self.project((maps * self.basis).sum((1, 2))))  # a depthwise convolution of the whole map
        if self.embedding is None:
            return found[:, 0]
        known = self.embedding.weight
        return (found * torch.cat([known, known.mean(0, keepdim=True)])[labels]).sum(1)


def _stages(config: R3GANConfig, spec: ImageSpec) -> tuple[Size, list[int]]:
    """The smallest map, and the width at each size from the smallest to the largest."""
    base, times = base_map(spec.size, "r3gan")
    return base, [min(config.base_channels * 2**k, config.max_channels) for k in reversed(range(times + 1))]


def _blocks(config: R3GANConfig, channels: int) -> list[nn.Module]:
    return [Block(channels, config.group_channels) for _ in range(config.blocks)]


def relativistic_loss(logits: Tensor, others: Tensor) -> Tensor:
    """E[softplus(-(logits - others))] over pairs: small where `logits` are the larger; Jolicoeur-Martineau 2018."""
    return F.softplus(others - logits).mean()


class R3GAN(Family, Inverts):
    Config: ClassVar[type] = R3GANConfig
    clock: ClassVar[Literal["linear", "log"]] = "linear"

    def __init__(self, config: R3GANConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        if config.conditional and not spec.classes:
            raise ConfigError("r3gan: the images have no classes; set network.conditional to false")
        self.classes = spec.classes if config.conditional else 0
        self.space = Space((normal(config.latent_dim),))
        self.generator = Generator(config, spec, self.classes)
        self.discriminator = Discriminator(config, spec, self.classes)

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "r3gan")

    def initialise(self, rng: torch.Generator) -> None:
        """Weights keep the variance of their inputs (He et al. 2015); blocks begin as the identity."""
        for network in (self.generator, self.discriminator):
            for module in network.modules():
                if isinstance(module, nn.Linear | Grouped):
                    nn.init.normal_(module.weight, 0, module.weight[0].numel() ** -0.5, generator=rng)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
            blocks = [module for module in network.modules() if isinstance(module, Block)]
            for block in blocks:
                block.scale(_GAIN * len(blocks) ** -0.25)
        nn.init.normal_(self.generator.basis, generator=rng)
        nn.init.normal_(self.discriminator.basis, 0, self.discriminator.basis[..., 0].numel() ** -0.5, generator=rng)
        if self.generator.embedding is not None and self.discriminator.embedding is not None:
            nn.init.normal_(self.generator.embedding.weight, 0, self.classes**-0.5, generator=rng)
            nn.init.normal_(self.discriminator.embedding.weight, 0, self.config.latent_dim**-0.5, generator=rng)

    def players(self) -> Sequence[Player]:
        optimizer = Adam(lr=self.config.learning_rate, betas=(0.0, self.config.beta2))
        return [
            Player("discriminator", [self.discriminator], optimizer),
            Player("generator", [self.generator], optimizer),
        ]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"gamma": self.config.gamma, "augmentation": self.config.augment.probability}

    def updates(self) -> Sequence[Update]:
        return [
            Update("discriminator", self._discriminator_loss),
            Update("generator", self._generator_loss, new_batch=False),
        ]

    def _discriminator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        labels, fake_images = step.batch.labels, step.keep("fake_images", lambda: self._fakes(step))
        images = torch.cat([step.batch.images, fake_images.detach()]).requires_grad_()
        seen = torch.cat([self._seen(part, step) for part in images.chunk(2)])
        logits = self.discriminator(seen, labels.repeat(2))
        real_logits, fake_logits = logits.chunk(2)
        with only_images():
            penalty = 2 * r1_penalty(logits, images)  # R1 + R2: twice the mean over both
        loss = relativistic_loss(real_logits, fake_logits)
        won = (real_logits - fake_logits).detach().sigmoid().mean()
        metrics = {"loss/discriminator": loss.detach(), "loss/penalty": penalty.detach()}
        metrics |= {"score/real": won, "score/fake": 1 - won}
        return loss + 0.5 * step.knobs["gamma"] * penalty, metrics

    def _generator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        fake_images = step.take("fake_images", lambda: self._fakes(step))
        with frozen(self.discriminator):
            fake_logits = self.discriminator(self._seen(fake_images, step), step.batch.labels)
            with torch.no_grad():
                real_logits = self.discriminator(self._seen(step.batch.images, step), step.batch.labels)
            loss = relativistic_loss(fake_logits, real_logits)
        return loss, {"loss/generator": loss.detach()}

    def _seen(self, images: Tensor, step: Step) -> Tensor:
        return augmented(images, self.config.augment, step)

    def _fakes(self, step: Step) -> Tensor:
        """One for each real image, of its class; of any class where that is not known."""
        labels = step.batch.labels
        z = step.noise.of(self.space, len(labels))
        if self.classes:
            labels = labels_for_fakes(labels, self.classes, step.noise)
        images: Tensor = self.generator(z, labels)
        return images

    @property
    def averaged(self) -> nn.Module:
        return self.generator

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.generator(noise, labels)
        return images.clamp(-1, 1)
