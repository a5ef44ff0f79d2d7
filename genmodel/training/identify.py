"""Who a training is: by its settings, its data and the code that it runs."""

from genmodel import code
from genmodel.data.block import Block
from genmodel.settings import RunConfig
from genmodel.training.identity import Identity

LOOP = "genmodel.training.trainer"  # all families are trained by it: the code of a training is this and its family's


def identify(name: str, config: RunConfig, block: Block) -> Identity:
    return Identity(name=name, config=config, block=block.digest, code=code.digest(LOOP, config.model.__module__))
