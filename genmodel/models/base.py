"""What the trainer, the sampler and the judges ask of a model, whatever its family."""

import contextlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from genmodel.errors import ConfigError


@dataclass(frozen=True)
class Noise:
    """The random numbers of a step: drawn for the whole batch by every process, which takes the rows of its share, so
    that an image meets the same ones whatever the number of processes."""

    rng: torch.Generator
    rank: int = 0
    world_size: int = 1

    def rows(self, count: int, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """`count` rows for this process's images, of draw(rows, rng) -> [rows, ...]."""
        return draw(count * self.world_size, self.rng)[self.rank * count : (self.rank + 1) * count]


@dataclass(frozen=True)
class Phase:
    """One optimiser update within a training step.

    `loss` takes images float [N, 3, S, S] in [-1, 1] and all noise, and returns the loss, a mean over the images, and
    detached scalars to record, means as well, named `loss/...`, `score/...`; they may stay on the device.
    """

    name: str  # of the player, and so of its optimiser: generator, discriminator, vae
    network: nn.Module  # whose parameters are updated; those of others get no gradient
    loss: Callable[[Tensor, Noise], tuple[Tensor, dict[str, Tensor]]]


class GenerativeModel(nn.Module, ABC):
    """A model that turns latent codes z into images.

    Images are float [N, 3, S, S] in [-1, 1]; codes are float32 [N, latent_dim].
    """

    Config: ClassVar[type]  # the family's frozen dataclass of network settings
    has_likelihood: ClassVar[bool]  # whether bits_per_dim means anything
    replay_clock: ClassVar[Literal["linear", "log"]]  # in which time its training is shown (OpenAI's post of 2016)

    def __init__(self, config: Any, image_size: int) -> None:
        super().__init__()
        self.config = config
        self.image_size = image_size
        self.latent_dim: int = config.latent_dim

    @abstractmethod
    def initialise(self, rng: torch.Generator) -> None:
        """Draw all weights from `rng` (a CPU generator), so that they are the same on every device."""

    @abstractmethod
    def optimizers(self) -> Mapping[str, torch.optim.Optimizer]:
        """The optimisers by player, made on first use, fused; their state belongs into a checkpoint."""

    @abstractmethod
    def phases(self) -> Sequence[Phase]:
        """The updates of one training step, in order."""

    @property
    def batches_per_step(self) -> int:
        """Batches of real images that a step takes: phase i gets batch i, phases after the last batch that one."""
        return 1

    @property
    @abstractmethod
    def averaged(self) -> nn.Module:
        """The part whose weights are averaged over training (EMA) and that is used for sampling."""

    @abstractmethod
    def draw_codes(self, n: int, rng: torch.Generator) -> Tensor:
        """`n` codes from the prior, float32 [n, latent_dim], on the generator's device."""

    @abstractmethod
    def generate(self, z: Tensor) -> Tensor:
        """Images of codes; one image does not depend on the others in the batch (call in eval mode)."""

    def bits_per_dim(self, images: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Upper bounds of -log2 p(image) per colour value, one sample of z each: named float [N] tensors.

        `images` are uint8 [N, S, S, 3]. Only for families with has_likelihood.
        """
        raise AssertionError(f"{type(self).__name__} has no likelihood: ask has_likelihood first")

    def importance_weighted_bits(self, images: Tensor, rng: torch.Generator, samples: int) -> Tensor:
        """The tighter bound by `samples` samples of z an image (Burda et al. 2016, eq. 8): float [N], bits/dim.

        `images` are uint8 [N, S, S, 3]. Only for families with has_likelihood.
        """
        raise AssertionError(f"{type(self).__name__} has no likelihood: ask has_likelihood first")

    def reconstruct(self, images: Tensor) -> Tensor:
        """Images of the mean codes of uint8 [N, S, S, 3] images: float [N, 3, S, S] in [-1, 1].

        Only for families with has_likelihood.
        """
        raise AssertionError(f"{type(self).__name__} has no likelihood: ask has_likelihood first")


@contextlib.contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """What is worked out here can pass gradients through `network`, but brings none to its weights."""
    free = [value for value in network.parameters() if value.requires_grad]
    for value in free:
        value.requires_grad_(False)
    try:
        yield
    finally:
        for value in free:
            value.requires_grad_(True)


def doublings(image_size: int, family: str) -> int:
    """How often a 4x4 map doubles to reach `image_size`; ConfigError for a size that is no power of two from 8."""
    times = math.log2(image_size) - 2
    if times < 1 or times != int(times):
        raise ConfigError(f"{family} cannot do {image_size} px: it does powers of two from 8 (8, 16, 32, 64, 128, ...)")
    return int(times)


def build_model(config: Any) -> GenerativeModel:
    """The model of a RunConfig, with weights drawn from its training seed."""
    model: GenerativeModel = config.model(config.network, config.image_size)
    model.initialise(torch.Generator().manual_seed(config.training.seed))
    return model
