"""The families' settings, by name; without torch, so that who only reads params.yaml need not wait for it."""

from dataclasses import dataclass
from typing import Annotated

from genmodel.config import Count, Positive, Range, Share


@dataclass(frozen=True, kw_only=True)
class DCGANConfig:
    latent_dim: Count = 100
    base_channels: Count = 64  # of the widest map; doubled at each halving
    generator_learning_rate: Positive = 2.0e-4
    discriminator_learning_rate: Positive = 2.0e-4
    beta1: Share = 0.5
    beta2: Annotated[float, Range(0, 0.999999)] = 0.999
    discriminator_steps: Count = 1  # updates of the discriminator, each on a batch of its own, for one of the generator
    r1: Annotated[float, Range(0)] = 0.0  # weight gamma of the R1 penalty; 0 leaves it out
    translate: Annotated[float, Range(0, 0.5)] = 0.0  # share of the side that images are moved by, for few images


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    latent_dim: Count = 100
    base_channels: Count = 64  # of the widest map; doubled at each halving
    learning_rate: Positive = 1.0e-3
    beta: Positive = 1.0  # weight of the rate in training (Higgins et al. 2017, eq. 4); figures never carry it


CONFIGS: dict[str, type] = {"dcgan": DCGANConfig, "vae": VAEConfig}
