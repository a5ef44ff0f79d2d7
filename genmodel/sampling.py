"""Samples of a model that is loaded: its networks here, or its exported graph, which needs no code of its family."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from genmodel.models.base import GenerativeModel
from genmodel.pixels import to_uint8

PRIORS: Mapping[str, Callable[[int, int, torch.Generator], Tensor]] = {  # n, latent_dim -> codes on the CPU
    "normal": lambda n, dim, rng: torch.randn(n, dim, generator=rng),
    "uniform": lambda n, dim, rng: torch.rand(n, dim, generator=rng).mul_(2).sub_(1),  # on [-1, 1)
}


class ImageSource(ABC):
    """What draws images of codes, whatever it is made of."""

    name: str  # for messages
    key: str  # sha256 of all numbers that decide its images
    modules: tuple[str, ...]  # whose code decides them beside those numbers, other than this one's
    image_size: int  # pixels a side
    device: torch.device

    @abstractmethod
    def draw_codes(self, n: int, seed: int) -> Tensor:
        """`n` codes on the CPU that `seed` alone decides: drawn at once, whatever the batch size."""

    @abstractmethod
    def draw(self, codes: Tensor) -> tuple[Tensor, int]:
        """Images uint8 [N, S, S, 3], on the device, of codes; and how many of them held values that were no numbers."""


class Networks(ImageSource):
    """A model whose family's code is here; `weights` is the sha256 of them."""

    def __init__(self, model: GenerativeModel, weights: str, name: str) -> None:
        self.model, self.key, self.name = model, weights, name
        self.modules = (type(model).__module__,)
        self.image_size = model.image_size
        self.device = next(model.parameters()).device

    def draw_codes(self, n: int, seed: int) -> Tensor:
        return draw_codes(self.model, n, seed)

    @torch.inference_mode()
    def draw(self, codes: Tensor) -> tuple[Tensor, int]:
        made = self.model.generate(codes.to(self.device))
        return to_uint8(made), int((~torch.isfinite(made).flatten(1).all(dim=1)).sum())


class ExportedGraph(ImageSource):
    """A graph from codes float32 [N, latent_dim] to images uint8 [N, S, S, 3], as Sampler has them, and its prior."""

    modules = ()

    def __init__(
        self, graph: Callable[[Tensor], Tensor], latent_dim: int, prior: str, key: str, name: str, device: str = "cpu"
    ) -> None:
        self.graph, self.latent_dim, self.prior = graph, latent_dim, prior
        self.key, self.name, self.device = key, name, torch.device(device)
        self.image_size = self.draw(self.draw_codes(2, 0))[0].shape[1]

    def draw_codes(self, n: int, seed: int) -> Tensor:
        return PRIORS[self.prior](n, self.latent_dim, torch.Generator().manual_seed(seed))

    @torch.no_grad()  # an exported graph may refuse inference mode
    def draw(self, codes: Tensor) -> tuple[Tensor, int]:
        return self.graph(codes.to(self.device)), 0  # what was no number has been rounded to one


def draw_codes(model: GenerativeModel, n: int, seed: int) -> Tensor:
    """`n` codes on the CPU that `seed` alone decides: drawn at once, whatever the batch size."""
    return model.draw_codes(n, torch.Generator().manual_seed(seed))


@torch.inference_mode()
def generate_batches(model: GenerativeModel, codes: Tensor, batch_size: int = 256) -> Iterator[Tensor]:
    """Images of codes in order, as float [B, 3, S, S] batches in [-1, 1] on the model's device."""
    device = next(model.parameters()).device
    for z in codes.split(batch_size):
        yield model.generate(z.to(device))


def sample(model: GenerativeModel, n: int, seed: int, batch_size: int = 256) -> Tensor:
    """`n` samples, uint8 [n, S, S, 3] on the CPU; the same seed gives the same images in the same order."""
    batches = generate_batches(model, draw_codes(model, n, seed), batch_size)
    return torch.cat([to_uint8(images).cpu() for images in batches])


class Sampler(nn.Module):
    """What is shipped of a model: codes float32 [N, latent_dim] in, images uint8 [N, S, S, 3] out."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return to_uint8(self.model.generate(z))
