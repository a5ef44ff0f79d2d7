"""The families by name, one line each. A family is imported only when asked for, and none knows another.

A family is one file: its networks, how it uses losses, its Config.
"""

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from genmodel.models.contract import Family

FAMILIES = {
    "dcgan": "genmodel.models.dcgan:DCGAN",
    "flow": "genmodel.models.flow:Flow",
    "improved_gan": "genmodel.models.improved_gan:ImprovedGAN",
    "infogan": "genmodel.models.infogan:InfoGAN",
    "pixelcnn": "genmodel.models.pixelcnn:PixelCNN",
    "r3gan": "genmodel.models.r3gan:R3GAN",
    "vae": "genmodel.models.vae:VAE",
}


def module_of(family: str) -> str:
    """The module of a family. Imports nothing."""
    return FAMILIES[family].partition(":")[0]


def load_family(family: str) -> "type[Family]":
    module, _, name = FAMILIES[family].partition(":")
    return cast("type[Family]", getattr(importlib.import_module(module), name))
