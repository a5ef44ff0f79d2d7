"""A ladder of latent maps with inverse autoregressive posteriors: Kingma, Salimans, Jozefowicz, Chen, Sutskever &
Welling 2016, "Improving Variational Inference with Inverse Autoregressive Flow", section 5 and appendix C.

A residual network climbs from the image to ever smaller maps, another descends to it, both without chance. On the way
down each layer draws its map z: in sampling from a Gaussian prior that depends on all maps above; in training from a
posterior which also has what the way up found there, moved on by `iaf_steps` autoregressive steps. With none it is the
same ladder with Gaussian posteriors. All convolutions are weight-normalised and begin fitted to data. The defaults are
smaller than what was published for CIFAR-10: 160 and 32 channels, 2 levels of 10 blocks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.models.abilities import Bounds, Inverts, Reconstructs, Weighted
from genmodel.models.contract import Adamax, Batch, Family, ImageSpec, Noise, Player, Step, Update
from genmodel.models.noise import Space, normal
from genmodel.models.parts.convolution import base_map
from genmodel.models.parts.labels import LabelEmbedding
from genmodel.models.parts.latent.decoded import PixelLikelihood, decoded_image, decoded_nll, decoded_width
from genmodel.models.parts.latent.ladder import Found, Layer, convolution
from genmodel.models.parts.losses import bits_per_dim, free_bits
from genmodel.models.parts.weight_norm import WeightNorm, fitting
from genmodel.pixels import to_model
from genmodel.settings.config import Count, Range
from genmodel.settings.schedule import Schedule, Scheduled


@dataclass(frozen=True, kw_only=True)
class IAFVAEConfig:
    base_channels: Count = 64  # of every map of the deterministic paths
    latent_dim: Count = 16  # channels of every z
    levels: Count = 2  # sizes of z, the first half the image's, each half of the one before; fewer for a small image
    blocks: Count = 4  # layers, each with its z, of every level
    iaf_steps: Annotated[int, Range(0, 2)] = 1  # of each posterior; the second goes the other way round
    likelihood: PixelLikelihood = "logistic"
    components: Count = 5  # of a mixture
    conditional: bool = False  # images of a class can be asked for
    learning_rate: Annotated[float | Schedule, Range(1e-12)] = 2.0e-3
    free_bits: Annotated[float, Range(0)] = 0.25  # nats of each channel of z whose rate does not count in training
    beta: Annotated[float | Schedule, Range(0)] = 1.0  # weight of the rate in training; not in figures


class IAFVAE(Family, Bounds, Weighted, Reconstructs, Inverts):
    Config: ClassVar[type] = IAFVAEConfig
    clock: ClassVar[Literal["linear", "log"]] = "log"
    first_images = 64

    def __init__(self, config: IAFVAEConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        if config.conditional and not spec.classes:
            raise ConfigError("iaf_vae: the images have no classes; set network.conditional to false")
        self.classes = spec.classes if config.conditional else 0
        _, times = base_map(spec.size, "iaf_vae")
        levels = [level for level in range(min(config.levels, times)) for _ in range(config.blocks)]
        halving = [below != level for below, level in zip([0, *levels], levels, strict=False)]
        sizes = [[side >> level + 1 for side in spec.size] for level in levels]
        self.encoder = convolution(spec.channels, config.base_channels, size=5, stride=2)
        self.layers = nn.ModuleList(  # the lowest first
            Layer(config.base_channels, config.latent_dim, config.iaf_steps, halves, top=number == len(levels))
            for number, halves in enumerate(halving, 1)
        )
        self.top = nn.Parameter(torch.empty(config.base_channels, *sizes[-1]))
        self.embedding = LabelEmbedding(self.classes, config.base_channels) if self.classes else None
        maps = decoded_width(config.likelihood, spec.channels, config.components)
        self.decoder = convolution(config.base_channels, 4 * maps)
        self.log_scale = nn.Parameter(torch.empty(spec.channels, 1, 1)) if config.likelihood == "logistic" else None
        self.space = Space(tuple(normal(config.latent_dim, *size) for size in reversed(sizes)))

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        base_map(spec.size, "iaf_vae")

    def initialise(self, rng: torch.Generator) -> None:
        for module in self.modules():
            if isinstance(module, WeightNorm):
                module.initialise(rng)
        nn.init.normal_(self.top, generator=rng)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, generator=rng)
        if self.log_scale is not None:
            nn.init.constant_(self.log_scale, -1.6)  # pixels uncertain by about 25 levels

    def begin(self, batch: Batch) -> None:
        """Fit each convolution to real images, the first one first."""
        noise = Noise(torch.Generator(batch.images.device).manual_seed(0))
        with fitting(self):
            self._down(self._noise(noise, batch.images), batch.labels, self._up(batch.images))

    def players(self) -> Sequence[Player]:
        return [Player("vae", [self], Adamax(lr=self.config.learning_rate))]

    def updates(self) -> Sequence[Update]:
        return [Update("vae", self._loss)]

    def knobs(self) -> Mapping[str, Scheduled]:
        return {"beta": self.config.beta}

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = step.batch.images, step.batch.labels
        decoded, rates, _ = self._down(self._noise(step.noise, images), labels, self._up(images))
        dimensions = images[0].numel()
        distortion = bits_per_dim(self._nll(images, decoded).mean(), dimensions)
        rate = bits_per_dim(rates.mean(0).sum(), dimensions)
        charged = bits_per_dim(free_bits(rates, self.config.free_bits, step.gather), dimensions)
        told = {"loss/negative_elbo": distortion + rate, "loss/distortion": distortion, "loss/rate": rate}
        return distortion + step.knobs["beta"] * charged, {name: value.detach() for name, value in told.items()}

    def _noise(self, noise: Noise, images: Tensor) -> list[Tensor]:
        return self.space.split(noise.of(self.space, len(images)))

    def _up(self, images: Tensor) -> list[Found]:
        """What each layer finds in images, the lowest first."""
        maps, found = self.encoder(images), []
        for layer in self.layers:
            assert isinstance(layer, Layer)
            maps, here = layer.up(maps)
            found.append(here)
        return found

    def _down(
        self, noise: Sequence[Tensor], labels: Tensor | None, found: Sequence[Found | None]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What the decoder says, [N, C, H, W]; the rates of all channels of z in nats, [N, layers * latent_dim]; and z
        as the prior's noise, [N, space.width]. `noise` is split into layers, the top one first."""
        maps = self.top.expand(noise[0].shape[0], *self.top.shape)
        if self.embedding is not None:
            maps = maps + self.embedding(labels)[:, :, None, None]
        rates, prior_noise = [], []
        for layer, its_noise, its in zip(reversed(self.layers), noise, reversed(found), strict=True):
            assert isinstance(layer, Layer)
            maps, rate, drawn = layer.down(maps, its_noise, its)
            rates.append(rate.sum((2, 3)))
            prior_noise.append(drawn.flatten(1))
        decoded = F.pixel_shuffle(self.decoder(F.elu(maps)), 2)
        return decoded, torch.cat(rates, dim=1), torch.cat(prior_noise, dim=1)

    def _nll(self, images: Tensor, decoded: Tensor) -> Tensor:
        return decoded_nll(images, decoded, self.log_scale)

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """The mean of p(x|z): the image without its pixel noise."""
        decoded, _, _ = self._down(self.space.split(noise), labels, [None] * len(self.layers))
        return decoded_image(decoded, self.spec.channels, self.config.likelihood)

    def bound(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        return self.weighted_bound(images, labels, rng, 1)

    def weighted_bound(self, images: Tensor, labels: Tensor, rng: torch.Generator, samples: int) -> Tensor:
        """-log2 of the mean of p(x|z) p(z) / q(z|x) over `samples` draws from q(z|x), one draw in memory at a time."""
        inputs = to_model(images)
        found = self._up(inputs)
        total = torch.full((len(images),), -math.inf, dtype=torch.float64, device=inputs.device)
        for _ in range(samples):
            decoded, rates, _ = self._down(self._noise(Noise(rng), inputs), labels, found)
            total = torch.logaddexp(total, -(self._nll(inputs, decoded) + rates.sum(1)).double())
        return bits_per_dim(math.log(samples) - total, inputs[0].numel())

    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """The prior's noise that gives the posterior's means, layer by layer."""
        zeros = self.space.split(torch.zeros(len(images), self.space.width, device=images.device))
        _, _, noise = self._down(zeros, labels, self._up(to_model(images)))
        return noise

    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        return self.sample(self.encode(images, labels), labels)
