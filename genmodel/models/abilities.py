"""What a family can do beyond sampling. Whoever wants more of a model asks isinstance(model, Classifies), never for a
family. Images in are uint8 [N, H, W, C]; labels int64 [N], -1 where a class is not known; an unconditional family
ignores them. All are called in eval mode, without gradients unless said.
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Bounds(ABC):
    """Has an upper bound of -log2 p(image)."""

    @abstractmethod
    def bound(self, images: Tensor, labels: Tensor, rng: torch.Generator) -> Tensor:
        """By one sample of what is hidden, an image: float [N], bits per colour value."""


class Weighted(ABC):
    """Has a tighter bound by several samples of what is hidden (Burda et al. 2016, eq. 8)."""

    @abstractmethod
    def weighted_bound(self, images: Tensor, labels: Tensor, rng: torch.Generator, samples: int) -> Tensor:
        """By `samples` samples an image: float [N], bits per colour value."""


class Likelihood(ABC):
    """Knows -log2 p(image) itself."""

    @abstractmethod
    def bits(self, images: Tensor, labels: Tensor) -> Tensor:
        """float [N], bits per colour value."""


class Reconstructs(ABC):
    """Finds the noise of an image, and the image of that noise."""

    @abstractmethod
    def encode(self, images: Tensor, labels: Tensor) -> Tensor:
        """float32 [N, space.width]."""

    @abstractmethod
    def reconstruct(self, images: Tensor, labels: Tensor) -> Tensor:
        """float [N, C, H, W] in [-1, 1]."""


class Classifies(ABC):
    """Tells the classes of images."""

    @abstractmethod
    def classify(self, images: Tensor) -> Tensor:
        """Logits of the block's classes, float [N, classes]."""


class Completes(ABC):
    """Fills in the unknown part of an image."""

    @abstractmethod
    def complete(self, images: Tensor, known: Tensor, noise: Tensor, labels: Tensor) -> Tensor:
        """float [N, C, H, W] in [-1, 1], which agree with `images` where `known`, bool [N, H, W], holds.

        Deterministic in `noise`, float32 [N, space.width].
        """


class Inverts:
    """`sample` is differentiable in its noise, so that the noise of a given image can be searched for."""
