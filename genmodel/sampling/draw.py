"""Samples of a loaded model: from its networks, or from its exported graph, which needs none of its family's code.

What they are drawn from, and in which batches, is in requests.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from genmodel.models.contract import Family
from genmodel.models.noise import Space
from genmodel.pixels import to_uint8
from genmodel.sampling.requests import codes, in_batches
from genmodel.sizes import Size


class ImageSource(ABC):
    """Draws images from codes, whatever the implementation."""

    name: str  # for messages
    key: str  # sha256 of all numbers that decide its images
    modules: tuple[str, ...]  # modules besides this one whose code also decides them
    image_size: Size
    channels: int  # 1: grey, 3: RGB, 4: RGBA
    device: torch.device
    space: Space
    shares: Sequence[float]  # of the classes among images without a chosen class; empty: not conditional

    def codes(self, n: int, seed: int, label: int | None = None) -> Tensor:
        """The codes of images 0 .. n - 1 of `seed`, on the CPU: of class `label`, or of classes drawn by `shares`."""
        return codes(self.space, self.shares, n, seed, label)

    @abstractmethod
    def draw(self, codes: Tensor) -> tuple[Tensor, int]:
        """Images of codes, uint8 [N, H, W, C] on the device, and how many of them held values that were not finite."""


class Networks(ImageSource):
    """A model whose family's code is here; `weights` is the sha256 of its weights, `shares` as for `codes`."""

    def __init__(self, model: Family, weights: str, name: str, shares: Sequence[float] = ()) -> None:
        self.model, self.key, self.name = model, weights, name
        self.modules = (type(model).__module__,)
        self.image_size, self.channels, self.space = model.image_size, model.spec.channels, model.space
        self.shares = shares if model.classes else ()
        self.device = next(model.parameters()).device

    @torch.inference_mode()
    def draw(self, codes: Tensor) -> tuple[Tensor, int]:
        made = in_batches(lambda part: sampled(self.model, part), codes.to(self.device))
        return to_uint8(made), int((~torch.isfinite(made).flatten(1).all(dim=1)).sum())


class ExportedGraph(ImageSource):
    """A graph from codes to images uint8 [N, H, W, C], like Sampler, with the description of its codes."""

    modules = ()

    def __init__(
        self,
        graph: Callable[[Tensor], Tensor],
        space: Space,
        shares: Sequence[float],
        key: str,
        name: str,
        device: str = "cpu",
    ) -> None:
        self.graph, self.space, self.shares = graph, space, shares
        self.key, self.name, self.device = key, name, torch.device(device)
        _, height, width, self.channels = self.draw(self.codes(2, 0))[0].shape
        self.image_size = Size(height, width)

    @torch.no_grad()  # an exported graph may refuse inference mode
    def draw(self, codes: Tensor) -> tuple[Tensor, int]:
        return in_batches(self.graph, codes.to(self.device)), 0  # non-finite values were already rounded to levels


class Sampler(nn.Module):
    """The part of a model that is shipped: codes in, images uint8 [N, H, W, C] out."""

    def __init__(self, model: Family) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        return to_uint8(sampled(self.model, codes))


def sampled(model: Family, codes: Tensor) -> Tensor:
    """Images float [N, C, H, W] of codes, as the model makes them."""
    if model.classes:
        return model.sample(codes[:, :-1], codes[:, -1].long())
    return model.sample(codes)


def sample(model: Family, n: int, seed: int, counts: Sequence[float] = ()) -> Tensor:
    """`n` samples, uint8 [n, H, W, C] on the CPU: image i of a seed is the same for any n.

    `counts`: how often each class of a conditional model is drawn; equally often by default.
    """
    source = Networks(model, "", "", counts or [1.0] * model.classes)
    return source.draw(source.codes(n, seed))[0].cpu()


def sample_classes(model: Family, n: int, seed: int, labels: Sequence[int]) -> Tensor:
    """`n` samples of each class in `labels`, one class after the other, all from the same noise."""
    source = Networks(model, "", "", [1.0] * model.classes)
    return source.draw(torch.cat([source.codes(n, seed, label) for label in labels]))[0].cpu()
