"""What a family can do beyond sampling. Callers check isinstance(model, Classifies), never which family it is. Input
images are uint8 [N, H, W, C]; labels int64 [N], -1 for an unknown class; an unconditional family ignores them. All are
called in eval mode, without gradients unless stated.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


class Bounds(ABC):
    """Has an upper bound of -log2 p(image)."""

    @abstractmethod
    def bound(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        """With one latent sample per image: float [N], bits per colour value."""


class Weighted(ABC):
    """Has a tighter bound from several latent samples (Burda et al. 2016, eq. 8)."""

    @abstractmethod
    def weighted_bound(self, images: Tensor, labels: Tensor, rng: torch.Generator, samples: int) -> Tensor:
        """With `samples` latent samples per image: float [N], bits per colour value."""


class Likelihood(ABC):
    """Knows -log2 p(image) exactly."""

    @abstractmethod
    def bits(self, images: Tensor, labels: Tensor) -> Tensor:
        """float [N], bits per colour value."""


class Codes(ABC):
    """Says how likely each level of a colour value is, given those before it: images can be coded in that many bits."""

    @abstractmethod
    def visit(self, labels: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Images uint8 [N, H, W, C] on the CPU for labels [N], one colour value after the other, in this order.

        `choose` gets the probabilities of its 256 levels, float64 [N, 256], and returns the levels, int64 [N]. The same
        choices get the same probabilities, to the last bit on the same machine.
        """


class Reconstructs(ABC):
    """Maps an image to noise, and that noise back to an image."""

    @abstractmethod
    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """float32 [N, space.width]."""

    @abstractmethod
    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        """float [N, C, H, W] in [-1, 1]."""


class Classifies(ABC):
    """Predicts the classes of images."""

    @abstractmethod
    def classify(self, images: Tensor) -> Tensor:
        """Logits of the block's classes, float [N, classes]."""


class Clusters(ABC):
    """Sorts images into groups that it has found without labels."""

    @abstractmethod
    def cluster(self, images: Tensor) -> Tensor:
        """The group of each image, int64 [N, codes]: a column for each way of sorting."""


class Completes(ABC):
    """Fills in the unknown part of an image."""

    @abstractmethod
    def complete(self, images: Tensor, known: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        """float [N, C, H, W] in [-1, 1], equal to `images` where `known`, bool [N, H, W], is true.

        Deterministic in `noise`, float32 [N, space.width].
        """


@dataclass(frozen=True)
class Observation:
    """What is seen of N images, all in the same way: seen = look(images) + noise, in the models' range of [-1, 1]."""

    seen: Tensor  # float [N, ...]
    look: Callable[[Tensor], Tensor]  # linear and differentiable: [N, C, H, W] -> [N, ...]
    back: Callable[[Tensor], Tensor]  # its pseudo-inverse: look(back(seen)) is seen, [N, ...] -> [N, C, H, W]
    deviation: float  # of the Gaussian noise on each value; 0: none


class Restores(ABC):
    """Draws images that explain what is seen of them: known pixels, a smaller image, noisy pixels."""

    @abstractmethod
    def restore(self, observation: Observation, noise: Tensor, labels: Tensor) -> Tensor:
        """float [N, C, H, W] in [-1, 1], nearly equal to what is seen of them; called with gradients.

        Deterministic in `noise`, float32 [N, space.width].
        """


class Inverts:
    """`sample` is differentiable in the normal and uniform parts of its noise, so that the noise of an image, or of
    what is seen of one, can be searched for by gradients."""
