"""The network of PixelCNN++ (Salimans et al. 2017): what each pixel depends on comes before it in raster order.

Two streams of gated residual blocks, each a U with shortcuts: the down stream sees the rows above a pixel, the right
stream also the pixels to its left, and at every block what the down stream has seen.

A block does not know whether it sees a whole image, a row or a pixel: channels are the last dimension of all maps, and
a Way computes what depends on the neighbours. `Whole` is the one of training; walk.py has those of sampling.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.models.parts.pixelcnn.shifted import DownRightShifted, DownShifted, Shifted

_RESIDUAL = 0.1  # of the variance-preserving weights, in the convolution that ends a block


class Way(ABC):
    """How a stream's blocks see their neighbours, the other stream and the class."""

    @abstractmethod
    def convolved(self, convolution: Shifted, maps: Tensor) -> Tensor: ...

    @abstractmethod
    def inner(self, stage: "Stage", maps: Tensor) -> Tensor:
        """What the stage's inner stage makes of maps at half the size, brought back to their size."""

    @abstractmethod
    def beside(self, block: "Gated") -> Tensor:
        """The activated output of the down stream's block with the same number."""

    @abstractmethod
    def passed(self, block: "Gated", active: Tensor) -> None:
        """Take note of a block's activated output, which the right stream needs of the down stream."""

    @abstractmethod
    def code(self, block: "Gated") -> Tensor:
        """The class's code, broadcast to the block's maps."""

    def dropped(self, maps: Tensor) -> Tensor:
        """The maps after dropout; only training has one."""
        return maps


class Gated(nn.Module):
    """maps + a * sigmoid(b), where a and b are what two convolutions make of the maps and of what is beside them.

    Takes and returns maps also as they are activated: several others need them.
    """

    number: int  # its place in its stream

    def __init__(self, convolution: type[Shifted], width: int, beside: bool, shortcut: bool, classes: int) -> None:
        super().__init__()
        self.first = convolution(2 * width, width)
        self.second = convolution(2 * width, 2 * width)
        self.beside = nn.Linear(2 * width, width) if beside else None
        self.shortcut = nn.Linear(2 * width, width) if shortcut else None
        self.code = nn.Embedding(classes, 2 * width) if classes else None

    def forward(self, maps: Tensor, active: Tensor, way: Way, shortcut: Tensor | None = None) -> tuple[Tensor, Tensor]:
        inner = way.convolved(self.first, active)
        if self.beside is not None:
            inner = inner + self.beside(way.beside(self))
        if self.shortcut is not None:
            inner = inner + self.shortcut(shortcut)
        gated = way.convolved(self.second, way.dropped(activated(inner)))
        if self.code is not None:
            gated = gated + way.code(self)
        maps = maps + F.glu(gated, dim=-1)
        active = activated(maps)
        way.passed(self, active)
        return maps, active


class Stage(nn.Module):
    """Blocks at one size, between them a stage at half the size, and after it blocks that see the first ones' maps."""

    def __init__(
        self, convolution: type[Shifted], width: int, blocks: int, halvings: int, classes: int, level: int = 0
    ) -> None:
        super().__init__()
        self.level = level  # the maps' sides are 2 ** level times smaller than the image's
        beside = convolution is DownRightShifted
        self.before = nn.ModuleList([Gated(convolution, width, beside, False, classes) for _ in range(blocks)])
        self.inner: Stage | None = None
        if halvings:
            self.shrink = convolution(width, width, stride=2)
            self.inner = Stage(convolution, width, blocks, halvings - 1, classes, level + 1)
            self.grow = nn.Linear(width, 4 * width)
        count = blocks + 1 if halvings else blocks
        self.after = nn.ModuleList([Gated(convolution, width, beside, True, classes) for _ in range(count)])
        inside = set(self.inner.convolutions) if self.inner is not None else set()
        for each in self.convolutions:
            if each not in inside:
                each.level = level

    @property
    def convolutions(self) -> list[Shifted]:
        """All of them, also those of the inner stages."""
        return [module for module in self.modules() if isinstance(module, Shifted)]

    @property
    def halved(self) -> "list[Stage]":
        """The stages that have one at half their size, by their level."""
        return [module for module in self.modules() if isinstance(module, Stage) and module.inner is not None]

    @property
    def blocks(self) -> list[Gated]:
        return [module for module in self.modules() if isinstance(module, Gated)]

    def forward(self, maps: Tensor, way: Way) -> tuple[Tensor, Tensor]:
        """The maps after the stage, and the same activated."""
        active = activated(maps)
        shortcuts = [active]
        for block in self.before:
            maps, active = block(maps, active, way)
            shortcuts.append(active)
        if self.inner is None:
            shortcuts.pop()  # the last one is what the blocks after see anyway
        else:
            maps = way.inner(self, maps)
            active = activated(maps)
        for block in self.after:
            maps, active = block(maps, active, way, shortcuts.pop())
        return maps, active


class Network(nn.Module):
    """images [N, C, H, W] -> `outputs` numbers for each pixel, of the pixels before it: [N, outputs, H, W]."""

    def __init__(self, channels: int, outputs: int, width: int, blocks: int, halvings: int, classes: int) -> None:
        super().__init__()
        self.channels, self.width, self.halvings = channels, width, halvings
        self.first_down = DownShifted(channels + 1, width)  # of the rows above
        self.first_right = DownRightShifted(channels + 1, width)  # of the pixels to the left and above them
        self.down = Stage(DownShifted, width, blocks, halvings, classes)
        self.right = Stage(DownRightShifted, width, blocks, halvings, classes)
        self.out = nn.Linear(2 * width, outputs)
        parts: tuple[Sequence[Shifted | Gated], ...] = (self.downs, self.rights, self.down.blocks, self.right.blocks)
        for those in parts:
            for number, each in enumerate(those):
                each.number = number

    @property
    def downs(self) -> list[DownShifted]:
        return [module for module in self.modules() if isinstance(module, DownShifted)]

    @property
    def rights(self) -> list[DownRightShifted]:
        return [module for module in self.modules() if isinstance(module, DownRightShifted)]

    def initialise(self, rng: torch.Generator) -> None:
        """Weights keep the variance of activated maps; each block begins near the identity."""
        for module in self.modules():
            if isinstance(module, Shifted | nn.Linear):
                nn.init.normal_(module.weight, 0, (0.645 * module.weight[0].numel()) ** -0.5, generator=rng)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, 0, _RESIDUAL, generator=rng)
        for module in self.modules():
            if isinstance(module, Gated):
                module.second.weight.data.mul_(_RESIDUAL)
        self.out.weight.data.mul_(_RESIDUAL)

    def forward(self, images: Tensor, labels: Tensor | None, drop: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """`labels` [N] if there are classes, -1 where one is unknown; `drop` applies dropout."""
        pixels = with_ones(images.permute(0, 2, 3, 1))
        way = Whole(labels, drop)
        self.down(self.first_down(F.pad(pixels, (0, 0, 0, 0, 1, -1))), way)
        _, active = self.right(self.first_right(F.pad(pixels, (0, 0, 1, -1))), way)
        numbers: Tensor = self.out(active)
        return numbers.permute(0, 3, 1, 2)


class Whole(Way):
    """All pixels of known images at once."""

    def __init__(self, labels: Tensor | None, drop: Callable[[Tensor], Tensor] | None) -> None:
        self.labels, self.drop = labels, drop
        self.seen: dict[int, Tensor] = {}

    def convolved(self, convolution: Shifted, maps: Tensor) -> Tensor:
        made: Tensor = convolution(maps)
        return made

    def inner(self, stage: Stage, maps: Tensor) -> Tensor:
        assert stage.inner is not None
        made: Tensor = stage.grow(stage.inner(stage.shrink(maps), self)[0])
        n, height, width, _ = made.shape
        return made.view(n, height, width, 2, 2, -1).transpose(2, 3).reshape(n, 2 * height, 2 * width, -1)

    def beside(self, block: Gated) -> Tensor:
        return self.seen[block.number]

    def passed(self, block: Gated, active: Tensor) -> None:
        if block.beside is None:
            self.seen[block.number] = active

    def code(self, block: Gated) -> Tensor:
        return class_code(block, self.labels)[:, None, None]

    def dropped(self, maps: Tensor) -> Tensor:
        return maps if self.drop is None else self.drop(maps)


def activated(maps: Tensor) -> Tensor:
    """Concatenated ELU: twice the channels (Salimans et al. 2017, after Shang et al. 2016)."""
    return F.elu(torch.cat([maps, -maps], dim=-1))


def with_ones(values: Tensor) -> Tensor:
    """Values [..., C] beside a channel of ones, which tells pixels from the padding."""
    return torch.cat([values, torch.ones_like(values[..., :1])], dim=-1)


def class_code(block: Gated, labels: Tensor | None) -> Tensor:
    """[N, 2 * width] of labels [N]: where one is -1, the mean of all classes' codes."""
    assert block.code is not None and labels is not None
    known: Tensor = block.code.weight
    return torch.cat([known, known.mean(0, keepdim=True)])[labels]
