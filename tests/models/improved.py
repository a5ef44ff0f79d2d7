"""Small models of improved_gan."""

from typing import Any

import torch
from torch import Tensor

from genmodel.models.contract import Batch, Noise, Step, build_model
from genmodel.models.improved_gan import ImprovedGAN
from genmodel.params import run_config
from genmodel.settings.config import RunConfig

SMALL = {"base_channels": 4, "latent_dim": 6, "width": 16, "minibatch_kernels": 5}

ALL = {
    "feature_matching": True,
    "minibatch_discrimination": True,
    "historical_averaging": 0.1,
    "real_target": 0.9,
    "virtual_batch_norm": True,
    "semi_supervised": True,
    "pixel_noise": 0.3,
    "feature_noise": 0.5,
    "labelled_memory": 8,
}

NETWORKS = ["convolutional", "fully_connected"]

TRAINING = {"images": 320, "batch_size": 8, "threads": 1, "log_every": 56, "checkpoint_every": 80, "labelled": 4}


def config(network: str = "convolutional", training: dict[str, Any] | None = None, **chosen: Any) -> RunConfig:
    values = {"family": "improved_gan", "image_size": 8, "network": {"network": network, **SMALL, **chosen}}
    return run_config(values | {"training": training or {}}, "toy")


def made(network: str = "convolutional", classes: int = 3, **chosen: Any) -> ImprovedGAN:
    model = build_model(config(network, **chosen), classes)
    assert isinstance(model, ImprovedGAN)
    return model


def batch(n: int = 12, classes: int = 3) -> Batch:
    rng = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (n, 3, 8, 8), generator=rng).float() / 127.5 - 1
    return Batch(images, torch.arange(n) % (classes + 1) - 1)


def noise(seed: int = 0) -> Noise:
    return Noise(torch.Generator().manual_seed(seed))


def judged(model: ImprovedGAN, images: Tensor) -> tuple[Tensor, Tensor]:
    """Features and logits without noise, gathered from this process alone, in float64."""
    features, logits = model.discriminator(images, Step(batch(), noise(9)))
    return features.double(), logits.double()
