"""InfoGAN: Chen et al. 2016, "Interpretable Representation Learning by Information Maximizing Generative Adversarial
Nets".

Part of the generator's noise are codes: categories, and numbers uniform in [-1, 1]. A head Q on the discriminator's
trunk tells them from the image, and the generator and the discriminator with Q both raise the lower bound that Q gives
on the mutual information of codes and image (eq. 5). So codes come to mean what is plain to see in an image: without
any label, a category becomes a digit's class.

Layers and learning rates are those of appendix C.1 for 28 px, where the smallest map is 7x7. For other sizes the map
halves more often (see base_map), as in DCGAN. Q tells a number's variance, too, and the bound is in nats.
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
from genmodel.models.abilities import Clusters, Inverts
from genmodel.models.contract import Adam, Family, ImageSpec, Player, Step, Update
from genmodel.models.noise import Space, categorical, uniform
from genmodel.models.parts.augment import Augmentation, augmented
from genmodel.models.parts.convolution import Down, Up, base_map
from genmodel.models.parts.losses import discriminator_loss, frozen, non_saturating_loss, widened
from genmodel.pixels import to_model
from genmodel.settings.config import Count, Positive, Range, Share
from genmodel.settings.schedule import Scheduled

_LEAK = 0.1
_FOUND = 128  # width of Q's own layer


@dataclass(frozen=True, kw_only=True)
class InfoGANConfig:
    categorical_codes: Count = 1
    categories: Annotated[int, Range(2)] = 10  # of each categorical code
    continuous_codes: Annotated[int, Range(0)] = 2
    latent_dim: Count = 62  # of the noise beside the codes
    base_channels: Count = 64  # of the widest map; doubled at each halving
    hidden: Count = 1024  # width of the fully connected layers
    categorical_weight: Annotated[float, Range(0)] = 1.0  # lambda, of the bound for categorical codes
    continuous_weight: Annotated[float, Range(0)] = 0.1  # and for continuous ones, whose information has no upper end
    generator_learning_rate: Positive = 1.0e-3
    discriminator_learning_rate: Positive = 2.0e-4
    beta1: Share = 0.5
    beta2: Annotated[float, Range(0, 0.999999)] = 0.999
    augment: Augmentation = Augmentation()  # noqa: RUF009  # of what the discriminator and Q see


class Generator(nn.Module):
    """Noise and codes, one number each and a category as one-hot: [N, before] -> images [N, C, H, W] in [-1, 1]."""

    def __init__(self, config: InfoGANConfig, before: int, spec: ImageSpec) -> None:
        super().__init__()
        self.base, times = base_map(spec.size, "infogan")
        widths = [config.base_channels * 2**k for k in reversed(range(times))]
        self.project = nn.Sequential(
            *_connected(before, config.hidden, nn.ReLU(inplace=True)),
            *_connected(config.hidden, self.base.height * self.base.width * widths[0], nn.ReLU(inplace=True)),
        )
        layers: list[nn.Module] = []
        for wide, narrow in itertools.pairwise(widths):
            layers += [Up(wide, narrow, bias=False), nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers, Up(widths[-1], spec.channels), nn.Tanh())

    def forward(self, told: Tensor) -> Tensor:
        projected = self.project(told).view(told.shape[0], *self.base, -1).permute(0, 3, 1, 2)
        images: Tensor = self.layers(projected)
        return images


class Discriminator(nn.Module):
    """images [N, C, H, W] -> logits [N] that they are real, and what Q says of their codes, [N, found]."""

    def __init__(self, config: InfoGANConfig, found: int, spec: ImageSpec) -> None:
        super().__init__()
        base, times = base_map(spec.size, "infogan")
        widths = [config.base_channels * 2**k for k in range(times)]
        layers: list[nn.Module] = [Down(spec.channels, widths[0]), nn.LeakyReLU(_LEAK, inplace=True)]
        for narrow, wide in itertools.pairwise(widths):
            layers += [Down(narrow, wide, bias=False), nn.BatchNorm2d(wide), nn.LeakyReLU(_LEAK, inplace=True)]
        last = base.height * base.width * widths[-1]
        leaky = nn.LeakyReLU(_LEAK, inplace=True)
        self.trunk = nn.Sequential(*layers, nn.Flatten(), *_connected(last, config.hidden, leaky))
        self.real = nn.Linear(config.hidden, 1)
        self.q = nn.Sequential(*_connected(config.hidden, _FOUND, nn.LeakyReLU(_LEAK)), nn.Linear(_FOUND, found))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return widened(self.real(features).flatten()), widened(self.q(features))


def _connected(before: int, after: int, activation: nn.Module) -> list[nn.Module]:
    return [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), activation]


class InfoGAN(Family, Clusters, Inverts):
    Config: ClassVar[type] = InfoGANConfig
    clock: ClassVar[Literal["linear", "log"]] = "linear"

    def __init__(self, config: InfoGANConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        parts = [categorical(config.categories, config.categorical_codes)]
        parts += [uniform(config.continuous_codes)] if config.continuous_codes else []
        self.space = Space((*parts, uniform(config.latent_dim)))  # codes first: code 0 is the first category
        self.logits = config.categorical_codes * config.categories
        self.generator = Generator(config, self.logits + config.continuous_codes + config.latent_dim, spec)
        self.discriminator = Discriminator(config, self.logits + 2 * config.continuous_codes, spec)

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "infogan")

    def initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
                nn.init.normal_(module.weight, 0, 0.02, generator=rng)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def players(self) -> Sequence[Player]:
        config, betas = self.config, (self.config.beta1, self.config.beta2)
        return [
            Player("generator", [self.generator], Adam(lr=config.generator_learning_rate, betas=betas)),
            Player("discriminator", [self.discriminator], Adam(lr=config.discriminator_learning_rate, betas=betas)),
        ]

    def updates(self) -> Sequence[Update]:
        return [
            Update("discriminator", self._discriminator_loss),
            Update("generator", self._generator_loss, new_batch=False),
        ]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"augmentation": self.config.augment.probability}

    def _discriminator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        if len(step.batch.images) == 1 and len(step.gather(step.batch.labels)) == 1:
            raise ConfigError("infogan normalises over the batch: each part of it needs at least 2 images")
        noise, fake_images = step.keep("drawn", lambda: self._drawn(step))
        real_logits, _ = self._judge(step.batch.images, step)
        fake_logits, found = self._judge(fake_images.detach(), step)
        loss = discriminator_loss(real_logits, fake_logits)
        metrics = {
            "loss/discriminator": loss.detach(),
            "score/real": real_logits.detach().sigmoid().mean(),
            "score/fake": fake_logits.detach().sigmoid().mean(),
        }
        return loss - self._worth(self.information(noise, found)), metrics

    def _generator_loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        noise, fake_images = step.take("drawn", lambda: self._drawn(step))
        with frozen(self.discriminator):
            fake_logits, found = self._judge(fake_images, step)
        loss, information = non_saturating_loss(fake_logits), self.information(noise, found)
        told = {f"score/{kind}_information": value.detach() for kind, value in information.items()}
        return loss - self._worth(information), {"loss/generator": loss.detach(), **told}

    def _drawn(self, step: Step) -> tuple[Tensor, Tensor]:
        noise = step.noise.of(self.space, len(step.batch.images))
        return noise, self.sample(noise)

    def _judge(self, images: Tensor, step: Step) -> tuple[Tensor, Tensor]:
        seen = augmented(images, self.config.augment, step)
        logits, found = self.discriminator(seen)
        return logits, found

    def information(self, noise: Tensor, found: Tensor) -> dict[str, Tensor]:
        """The lower bound on the mutual information of image and codes, E[log Q(c|x)] + H(c) (eq. 4), in nats summed
        over the codes of a kind; `found` [N, ...] is what Q says of the images of `noise`."""
        codes, categories = self.config.categorical_codes, self.config.categories
        choices = noise[:, :codes].long()
        logits = found[:, : self.logits].unflatten(1, (codes, categories))
        missing = F.cross_entropy(logits.flatten(0, 1), choices.flatten())
        bound = {"categorical": codes * (math.log(categories) - missing)}
        if (numbers := self.config.continuous_codes) == 0:
            return bound
        mean, logvar = found[:, self.logits :].chunk(2, dim=1)
        logvar = logvar.clamp(-8, 4)
        away = (noise[:, codes : codes + numbers] - mean).square() / logvar.exp()
        missing = 0.5 * (away + logvar + math.log(2 * math.pi)).sum(dim=1).mean()
        return bound | {"continuous": numbers * math.log(2) - missing}

    def _worth(self, information: dict[str, Tensor]) -> Tensor:
        weights = {"categorical": self.config.categorical_weight, "continuous": self.config.continuous_weight}
        return torch.stack([weights[kind] * value for kind, value in information.items()]).sum()

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        choices, *numbers = self.space.split(noise)
        every = torch.arange(self.config.categories, device=noise.device)
        one_hot = (choices[:, :, None].long() == every).to(noise.dtype).flatten(1)
        images: Tensor = self.generator(torch.cat([one_hot, *numbers], dim=1))
        return images

    def cluster(self, images: Tensor) -> Tensor:
        _, found = self.discriminator(to_model(images))
        logits: Tensor = found[:, : self.logits].unflatten(1, (-1, self.config.categories))
        return logits.argmax(dim=2)
