"""The families, by name. A family is one file, its networks and its losses' use, and its settings in configs.py."""

from genmodel.models.base import GenerativeModel
from genmodel.models.dcgan import DCGAN
from genmodel.models.vae import VAE

FAMILIES: dict[str, type[GenerativeModel]] = {"dcgan": DCGAN, "vae": VAE}
