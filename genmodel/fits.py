"""Whether settings and data fit each other: told before anything is trained, with all that must change."""

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.params import Params


def check_fits(params: Params, block: Block) -> None:
    """ConfigError that names every size and label setting of params.yaml that the block cannot serve."""
    problems = [*_sizes(params, block), *_labels(params, block)]
    if problems:
        raise ConfigError(f"params.yaml and {block.path} do not fit, nothing was trained: {'; '.join(problems)}")


def _sizes(params: Params, block: Block) -> list[str]:
    places = {f"models.{name}.image_size": model.image_size for name, model in params.models.items()}
    places["evaluation.image_size"] = judged = params.evaluation.image_size
    if set(places.values()) == {judged} and judged in block.sizes:
        return []
    size = judged if judged in block.sizes else block.sizes[0]
    wrong = ", ".join(f"{place} ({value})" for place, value in places.items() if value != size)
    has = ", ".join(map(str, block.sizes))
    again = "" if judged in block.sizes else f" (or prepare the data again with --sizes {judged})"
    return [f"the block holds {has} px and all models are judged at one size: write {size} at {wrong}{again}"]


def _labels(params: Params, block: Block) -> list[str]:
    if params.evaluation.extractor != "classifier" or len(block.classes) >= 2:
        return []
    return [
        f"the block has {len(block.classes)} class{'' if len(block.classes) == 1 else 'es'} and a classifier needs two:"
        " write pixels at evaluation.extractor"
    ]
