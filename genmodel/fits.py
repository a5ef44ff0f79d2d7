"""Whether settings and data fit each other: checked before anything is trained, listing all that must change."""

import contextlib
from collections.abc import Iterator

from genmodel.data.block import SPLITS, Block
from genmodel.devices import lacks_memory
from genmodel.errors import ConfigError
from genmodel.output.counting import counted
from genmodel.params import Params
from genmodel.settings.config import TrainingConfig
from genmodel.sizes import Size


def check_fits(params: Params, block: Block) -> None:
    """ConfigError naming every size and label setting of params.yaml that the block cannot serve, and every model that
    cannot handle the block's images or needs classes that it does not have."""
    size = _common_size(params, block)
    problems = [*_sizes(params, block, size), *_refusals(params, block, size, built=True), *_labels(params, block)]
    if problems:
        raise ConfigError(f"params.yaml does not fit {block.path}, nothing was trained: {'; '.join(problems)}")


def _common_size(params: Params, block: Block) -> Size:
    """The size that all models can be trained and judged at: the evaluation's, or else the block's first size that all
    families support."""
    if params.evaluation.image_size in block.sizes:
        return params.evaluation.image_size
    return next((size for size in block.sizes if not _refusals(params, block, size)), block.sizes[0])


def _refusals(params: Params, block: Block, size: Size, built: bool = False) -> list[str]:
    """The families' messages about images that they cannot handle, each once, with the models it applies to; if `built`
    also what a network of these settings refuses, such as a block without the classes that it is conditional on."""
    import torch

    from genmodel.models.contract import ImageSpec  # torch's: only what trains needs it

    spec = ImageSpec(size, block.channels, len(block.classes))
    said: dict[str, list[str]] = {}
    for name, model in params.models.items():
        try:
            model.model.check(spec)
            if built:
                with torch.device("meta"):  # takes no memory
                    model.model(model.network, spec)
        except ConfigError as error:
            said.setdefault(str(error), []).append(f"models.{name}")
    return [f"{', '.join(names)}: {why}" for why, names in said.items()]


def _sizes(params: Params, block: Block, size: Size) -> list[str]:
    places = {f"models.{name}.image_size": model.image_size for name, model in params.models.items()}
    places["evaluation.image_size"] = judged = params.evaluation.image_size
    if set(places.values()) == {judged} and judged in block.sizes:
        return []
    wrong = ", ".join(f"{place} ({value})" for place, value in places.items() if value != size)
    has = ", ".join(map(str, block.sizes))
    again = "" if judged in block.sizes else f" (or prepare the data again with --sizes {judged})"
    return [f"the block holds {has} px and all models are judged at one size: set {wrong} to {size}{again}"]


def _labels(params: Params, block: Block) -> list[str]:
    if params.evaluation.extractor != "classifier" or len(block.classes) >= 2:
        return []
    return [
        f"the block has {counted(len(block.classes), 'class')} and a classifier needs two:"
        " set evaluation.extractor to pixels"
    ]


def repeats(config: TrainingConfig, block: Block) -> str:
    """In words, that a batch is larger than the split that is trained on; empty if it is not."""
    images = int((block.splits == SPLITS["train"]).sum())
    if config.batch_size <= images:
        return ""
    return (
        f"training.batch_size ({config.batch_size:,}) is more than the {counted(images, 'image')} of the train split:"
        f" each step shows some of them more than once; set it to {images} or less"
    )


@contextlib.contextmanager
def memory_errors(name: str, config: TrainingConfig) -> Iterator[None]:
    """ConfigError in place of torch's error for a training that needs more memory than the device has."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not lacks_memory(error):
            raise
        raise ConfigError(
            f"{name} does not fit into memory: lower training.batch_size ({config.batch_size:,}), raise"
            f" training.accumulate ({config.accumulate}), or make its network smaller"
        ) from error
