"""Identifies a training by its settings, its data and the code that it runs. Needs no torch."""

from genmodel import code
from genmodel.data.block import Block
from genmodel.settings.config import RunConfig
from genmodel.training.identity import Identity

LOOP = "genmodel.training.trainer"  # trains all families: the code of a training is this and its family's


def identify(name: str, config: RunConfig, block: Block) -> Identity:
    return Identity(name=name, config=config, block=block.digest, code=code_of(config.model.__module__))


def code_of(module: str) -> str:
    """sha256 of the code that trains the family in `module`."""
    return code.digest(LOOP, module)
