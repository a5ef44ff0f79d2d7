"""Names that the tests of the shipped code share."""

from collections.abc import Callable

from genmodel.models.contract import Family

Build = Callable[..., Family]

SMALL = {"latent_dim": 4, "base_channels": 4, "steps": 2}

CLASSES = {"circle": 30, "square": 10, "0": 20}
