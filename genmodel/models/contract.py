"""What a family is: networks, players with their optimisers, updates with their losses, and how images are sampled.

The engine needs nothing else, and knows no family. What a family may also be able to do is in abilities.py.
CONTRIBUTING.md says how to add one.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import torch
from torch import Tensor, nn

from genmodel.models.noise import Space
from genmodel.settings.schedule import Scheduled
from genmodel.sizes import Size

T = TypeVar("T")


@dataclass(frozen=True)
class ImageSpec:
    """The images that a model is made for, and how many classes the block has."""

    size: Size
    channels: int = 3  # 1: grey, 3: RGB, 4: RGBA
    classes: int = 0


@dataclass(frozen=True)
class Batch:
    """Images float [N, C, H, W] in [-1, 1]; labels int64 [N], -1 where they are withheld from training."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Noise:
    """The random numbers of a step: they are always drawn for the whole batch, and the rows of these images are taken,
    so that an image gets the same ones for any number of processes, and of parts that a batch is processed in.

    These images are `own` of the `whole` batch, after the `first` ones; only the ratios count.
    """

    rng: torch.Generator
    first: int = 0
    whole: int = 1
    own: int = 1

    def rows(self, count: int, draw: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """`count` rows for these images, of draw(rows, rng) -> [rows, ...]."""
        start = count * self.first // self.own
        return draw(count * self.whole // self.own, self.rng)[start : start + count]

    def of(self, space: Space, count: int) -> Tensor:
        """Sampling noise for these images, float32 [count, space.width]."""
        return self.rows(count, lambda n, rng: torch.cat([_drawn(part, n, rng) for part in space.parts], dim=1))

    def repeated(self, make: Callable[[], T]) -> Callable[[], T]:
        """`make`, to be called later with the random numbers that it would draw now; they are not used up."""
        then = self.rng.get_state()

        def again() -> T:
            now = self.rng.get_state()
            self.rng.set_state(then)
            made = make()
            self.rng.set_state(now)
            return made

        return again


def _drawn(part: Any, n: int, rng: torch.Generator) -> Tensor:
    options: dict[str, Any] = {"generator": rng, "device": rng.device}
    if part.kind == "uniform":
        return torch.rand(n, part.width, **options).mul_(2).sub_(1)
    if part.kind == "categorical":
        return torch.randint(part.classes, (n, part.width), **options).float()
    return torch.randn(n, part.width, **options)


@dataclass(frozen=True)
class Step:
    """The input of a loss: everything that it may depend on besides the networks."""

    batch: Batch  # this process's share, or a part of it
    noise: Noise
    knobs: Mapping[str, Tensor] = field(default_factory=dict)  # Family.knobs at this moment, scalars on the device
    kept: MutableMapping[str, Callable[[], Any]] = field(default_factory=dict)
    holds: bool = True  # False: what is kept is made again when it is taken, which saves memory
    gather: Callable[[Tensor], Tensor] = lambda values: values  # rows of all processes, [world_size * N, ...], in order

    def keep(self, name: str, make: Callable[[], T]) -> T:
        """Make something (fakes), and keep it for the next update of this step that sees the same images."""
        again = None if self.holds else self.noise.repeated(make)
        made = make()
        self.kept[name] = again or (lambda: made)
        return made

    def take(self, name: str, make: Callable[[], T]) -> T:
        """What an earlier update kept, once; made now if nothing is kept."""
        taken: T = self.kept.pop(name, make)()
        return taken


Loss = Callable[[Step], tuple[Tensor, dict[str, Tensor]]]


@dataclass(frozen=True, kw_only=True)
class Adam:
    """Kingma & Ba 2015."""

    lr: Scheduled
    betas: tuple[Scheduled, Scheduled] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True, kw_only=True)
class Adamax:
    """Kingma & Ba 2015, section 7.1."""

    lr: Scheduled
    betas: tuple[Scheduled, Scheduled] = (0.9, 0.999)
    eps: float = 1e-8


@dataclass(frozen=True)
class Player:
    """Networks that one optimiser updates."""

    name: str  # generator, discriminator, vae
    parts: Sequence[nn.Module]
    optimizer: Adam | Adamax

    def parameters(self) -> list[nn.Parameter]:
        """Those that are trained, each once."""
        found = {id(value): value for part in self.parts for value in part.parameters() if value.requires_grad}
        return list(found.values())


@dataclass(frozen=True)
class Update:
    """One update of a player within a training step.

    `loss` returns the loss, a mean over the images of its step, and detached scalars to record, also means, named
    `loss/...`, `score/...`; they may stay on the device. Gradients reach only the player's parameters.
    `new_batch`: whether it sees new real images, or those of the previous update.
    """

    player: str
    loss: Loss
    new_batch: bool = True


class Family(nn.Module, ABC):
    """A model that turns noise into images."""

    Config: ClassVar[type]  # the family's frozen dataclass of settings
    clock: ClassVar[Literal["linear", "log"]]  # time scale of its replay (OpenAI's post of 2016)

    space: Space  # of the noise that `sample` takes
    classes: int = 0  # that can be asked for; 0: not conditional
    first_images: int = 0  # how many images `begin` needs; 0: it is not called

    def __init__(self, config: Any, spec: ImageSpec) -> None:
        super().__init__()
        self.config = config
        self.spec = spec
        self.image_size = spec.size

    @classmethod
    def check(cls, spec: ImageSpec) -> None:
        """ConfigError, naming the nearest possible sizes, for images that the family cannot handle; raised before any
        training."""

    @abstractmethod
    def initialise(self, rng: torch.Generator) -> None:
        """Draw all weights from `rng` (a CPU generator), so that they are the same on every device."""

    def begin(self, batch: Batch) -> None:
        """Called before the first step with the first `first_images` images of the training, the same in every process.

        For data-dependent initialisation and reference batches; what is kept belongs in buffers or parameters.
        """

    @abstractmethod
    def players(self) -> Sequence[Player]:
        """The players, each with its optimiser."""

    @abstractmethod
    def updates(self) -> Sequence[Update]:
        """The updates of one training step, in order; the first sees a new batch."""

    def knobs(self) -> Mapping[str, Scheduled]:
        """Numbers that losses read as `step.knobs`; they may follow schedules."""
        return {}

    @property
    def averaged(self) -> nn.Module:
        """The part whose weights are averaged over training (EMA); samples and figures use the averages."""
        return self

    @abstractmethod
    def sample(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        """Images float [N, C, H, W] in [-1, 1] from noise, float32 [N, space.width]; called in eval mode.

        Image i depends only on noise[i] and labels[i]. `labels`, int64 [N], only if `classes` is above 0. For N write
        noise.shape[0]: len(noise) fixes the number of images in an exported graph.
        """

    @property
    def batches_per_step(self) -> int:
        """Batches of real images in a step."""
        return sum(update.new_batch for update in self.updates())


def build_model(config: Any, classes: int, channels: int = 3) -> Family:
    """The model of a RunConfig for a block with these classes and channels; its training seed decides the weights."""
    model: Family = config.model(config.network, ImageSpec(config.image_size, channels, classes))
    model.initialise(torch.Generator().manual_seed(config.training.seed))
    return model
