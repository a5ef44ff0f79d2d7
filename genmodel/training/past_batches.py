"""Any batch of any past training: the seed decides the order, so the block and the run's settings are enough."""

import json
from pathlib import Path

from torch import Tensor

from genmodel.data.block import Block
from genmodel.data.reading.loader import Loader
from genmodel.errors import BlockError, ConfigError
from genmodel.models.contract import ImageSpec
from genmodel.params import recorded_config


def past_batch(run: Path, block: Block, step: int) -> tuple[Tensor, int, str]:
    """The images of a step, counted from 1, of the training whose record is in the folder `run`.

    Returns uint8 [N, H, W, C], mirrored as they were; the images seen before; and the digest of their order, which is
    also in the record's row of that moment. ConfigError for a run that cannot be read or a step that it does not have;
    BlockError for another block than the run's.
    """
    path = run / "identity.json"
    try:
        identity = json.loads(path.read_text())
        config, digest = recorded_config(identity["config"], str(path)), identity["block"]
    except (OSError, RecursionError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"--run {run}: identity.json is missing or damaged: give a folder in runs/") from error
    if digest != block.digest:
        raise BlockError(
            f"{block.path} is not the run's block ({block.digest[:16]}, not {digest[:16]}): give that with --data"
        )
    training = config.training
    model = config.model(config.network, ImageSpec(config.image_size, block.channels, len(block.classes)))
    per_step = training.batch_size * model.batches_per_step
    last = -(-training.images // per_step)
    if not 1 <= step <= last:
        raise ConfigError(f"--step {step}: the run has steps 1 to {last:,}")
    loader = Loader(block, config.image_size, "train", training.seed, flip=training.flip, place="map")
    seen = (step - 1) * per_step
    return loader.batch(seen, per_step)[0], seen, loader.order_digest(seen)
