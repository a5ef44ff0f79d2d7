"""The families, by name. A family is one file: its networks, its losses' use, its Config."""

from genmodel.models.base import GenerativeModel
from genmodel.models.dcgan import DCGAN
from genmodel.models.vae import VAE

FAMILIES: dict[str, type[GenerativeModel]] = {"dcgan": DCGAN, "vae": VAE}
