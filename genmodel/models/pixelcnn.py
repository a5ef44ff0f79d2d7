"""PixelCNN++: Salimans, Karpathy, Chen & Kingma 2017, with the cached sampling of Ramachandran et al. 2017.

Every pixel is drawn from a mixture of discretised logistics that a network makes of the pixels before it, so that the
likelihood is exact, and the noise is the uniform numbers that pixels are drawn with. The published network for CIFAR-10
has 160 channels and 5 blocks, days of work for a large GPU; the defaults are smaller. Weight normalisation is left out:
blocks begin near the identity, with weights that keep the variance.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from genmodel.errors import ConfigError
from genmodel.models.abilities import Codes, Completes, Likelihood
from genmodel.models.contract import Adam, Family, ImageSpec, Noise, Player, Step, Update
from genmodel.models.noise import Space, uniform
from genmodel.models.parts.logistics import draw, level_probabilities, mixture_nll, mixture_width
from genmodel.models.parts.losses import bits_per_dim
from genmodel.models.parts.pixelcnn.network import Network
from genmodel.models.parts.pixelcnn.walk import walk
from genmodel.pixels import to_model, to_uint8
from genmodel.settings.config import Count, Range
from genmodel.settings.schedule import Schedule
from genmodel.sizes import Size

_AT_ONCE = 64  # images whose likelihood is worked out together


@dataclass(frozen=True, kw_only=True)
class PixelCNNConfig:
    base_channels: Count = 64  # of every map
    blocks: Count = 2  # gated residual blocks at each size, on the way down; there is one more on the way up
    halvings: Annotated[int, Range(0)] = 2  # of the maps; fewer if a side cannot be halved so often
    components: Count = 10  # of the mixture
    dropout: Annotated[float, Range(0, 0.95)] = 0.5
    conditional: bool = False  # images of a class can be asked for
    learning_rate: Annotated[float | Schedule, Range(1e-12)] = 1.0e-3


class PixelCNN(Family, Likelihood, Codes, Completes):
    Config: ClassVar[type] = PixelCNNConfig
    clock: ClassVar[Literal["linear", "log"]] = "log"

    def __init__(self, config: PixelCNNConfig, spec: ImageSpec) -> None:
        super().__init__(config, spec)
        if config.conditional and not spec.classes:
            raise ConfigError("pixelcnn: the images have no classes; set network.conditional to false")
        self.classes = spec.classes if config.conditional else 0
        # of each pixel: which component, and the quantile of each channel
        self.space = Space((uniform(1 + spec.channels, *spec.size),), meaningful=False)
        outputs, halvings = mixture_width(spec.channels, config.components), _halvings(spec.size, config.halvings)
        self.network = Network(spec.channels, outputs, config.base_channels, config.blocks, halvings, self.classes)

    def initialise(self, rng: torch.Generator) -> None:
        self.network.initialise(rng)

    def players(self) -> Sequence[Player]:
        return [Player("pixelcnn", [self], Adam(lr=self.config.learning_rate, betas=(0.95, 0.9995)))]

    def updates(self) -> Sequence[Update]:
        return [Update("pixelcnn", self._loss)]

    def _loss(self, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        images = step.batch.images
        parameters = self.network(images, step.batch.labels, self._dropout(step.noise))
        loss = bits_per_dim(mixture_nll(images, parameters), images[0].numel()).mean()
        return loss, {"loss/bits_per_dim": loss.detach()}

    def _dropout(self, noise: Noise) -> "Dropout | None":
        return Dropout(self.config.dropout, noise) if self.config.dropout else None

    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        (uniforms,) = self.space.split(noise)
        drawn = walk(self.network, labels, uniforms.permute(2, 3, 0, 1), _drawn)
        return drawn.permute(2, 3, 0, 1)

    def bits(self, images: Tensor, labels: Tensor) -> Tensor:
        found = []
        for some, theirs in zip(images.split(_AT_ONCE), labels.split(_AT_ONCE), strict=True):
            inputs = to_model(some)
            found.append(bits_per_dim(mixture_nll(inputs, self.network(inputs, theirs)), inputs[0].numel()))
        return torch.cat(found)

    def visit(self, labels: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """By the same walk for coding and for decoding: the whole network at once rounds otherwise."""

        def pixel(parameters: Tensor, _: Tensor) -> Tensor:
            told = parameters.double()[:, :, None, None]
            values = parameters.new_zeros(len(labels), self.spec.channels)
            for channel in range(self.spec.channels):
                shown = values.double()[:, :, None, None]
                levels = choose(level_probabilities(told, shown, channel)[:, :, 0, 0])
                values[:, channel] = levels.to(values.dtype) * (2 / 255) - 1  # as to_model has them
            return values

        nothing = self.network.out.weight.new_empty(*self.image_size, len(labels), 0)
        return to_uint8(walk(self.network, labels, nothing, pixel).permute(2, 3, 0, 1))

    def complete(self, images: Tensor, known: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        """Pixels are drawn in raster order: what is known below and to the right of a pixel has no say in it."""
        (uniforms,) = self.space.split(noise)
        given = torch.cat([uniforms, to_model(images), known[:, None].to(uniforms.dtype)], dim=1)

        def choose(parameters: Tensor, given: Tensor) -> Tensor:
            uniforms, values, keep = given.split([1 + self.spec.channels, self.spec.channels, 1], dim=1)
            return torch.where(keep > 0, values, _drawn(parameters, uniforms))

        return walk(self.network, labels, given.permute(2, 3, 0, 1), choose).permute(2, 3, 0, 1)


@dataclass(frozen=True)
class Dropout:
    """Sets a share of the values to 0, chosen by the step's noise, and scales the others."""

    share: float
    noise: Noise

    def __call__(self, maps: Tensor) -> Tensor:
        def draw(count: int, rng: torch.Generator) -> Tensor:
            return torch.rand(count, *maps.shape[1:], generator=rng, device=maps.device)

        kept = self.noise.rows(maps.shape[0], draw) >= self.share
        return maps * kept * (1 / (1 - self.share))


def _drawn(parameters: Tensor, uniforms: Tensor) -> Tensor:
    """A pixel of each image, [N, C]."""
    return draw(parameters[:, :, None, None], uniforms[:, :, None, None])[:, :, 0, 0]


def _halvings(size: Size, most: int) -> int:
    """How often both sides can be halved, at most `most` times."""
    return next(times for times in range(most, -1, -1) if not any(side % 2**times for side in size))
