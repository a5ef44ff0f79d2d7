"""Figures of what a model takes to keep, exact: no samples, no interval."""

from collections.abc import Mapping
from typing import NamedTuple

from genmodel.evaluation import table


class Stored(NamedTuple):
    """Bytes of the block's images of the model's size, as the shards hold them, and of the model's weights on disk."""

    images: int
    weights: int


def of_weights(stored: Stored) -> Mapping[str, float]:
    """The figures that need nothing else, by name."""
    figures = [figure for figure in table.FIGURES if figure.needs == "weights"]
    return {figure.name: figure.function()(stored) for figure in figures}


def compression(stored: Stored) -> float:
    return stored.images / stored.weights
