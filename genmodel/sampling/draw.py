"""Samples of a model that is loaded: its networks here, or its exported graph, which needs no code of its family.

What they are drawn from, and in which batches, stands in requests.py.
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
    """What draws images of codes, whatever it is made of."""

    name: str  # for messages
    key: str  # sha256 of all numbers that decide its images
    modules: tuple[str, ...]  # whose code decides them beside those numbers, other than this one's
    image_size: Size
    channels: int  # 1: grey, 3: RGB, 4: RGBA
    device: torch.device
    space: Space
    shares: Sequence[float]  # of the classes among images that nobody chose a class for; empty: not conditional

    def codes(self, n: int, seed: int, label: int | None = None) -> Tensor:
        """The codes of images 0 .. n - 1 of `seed`, on the CPU; of the class `label`, or of classes as `shares` say."""
        return codes(self.space, self.shares, n, seed, label)

    @abstractmethod
    def draw(self, codes: Tensor) -> tuple[Tensor, int]:
        """Images uint8 [N, H, W, C], on the device, of codes; and how many of them held values that were not finite."""


class Networks(ImageSource):
    """A model whose family's code is here; `weights` is the sha256 of them, `shares` as for `codes`."""

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
    """A graph from codes to images uint8 [N, H, W, C], as Sampler is one, with what its codes consist of."""

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
        return in_batches(self.graph, codes.to(self.device)), 0  # what was not a number has been rounded to one


class Sampler(nn.Module):
    """What is shipped of a model: codes in, images uint8 [N, H, W, C] out."""

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

    `counts`: how often each class is drawn in a model of classes; equally often without.
    """
    source = Networks(model, "", "", counts or [1.0] * model.classes)
    return source.draw(source.codes(n, seed))[0].cpu()


def sample_classes(model: Family, n: int, seed: int, labels: Sequence[int]) -> Tensor:
    """`n` samples of each class in `labels`, one class after the other, all of the same noise."""
    source = Networks(model, "", "", [1.0] * model.classes)
    return source.draw(torch.cat([source.codes(n, seed, label) for label in labels]))[0].cpu()
