"""How figures are called. Imports nothing, so that a table of them needs no torch."""

from typing import NamedTuple


class FigureNames(NamedTuple):
    """How an extractor's figures are called."""

    frechet: str
    frechet_at_infinity: str
    kernel: str
    inception_score: str


def figure_names(extractor: str) -> FigureNames:
    """fid, kid and inception_score are names that only the reference Inception weights earn."""
    if extractor == "inception":
        return FigureNames("fid", "fid_infinity", "kid", "inception_score")
    return FigureNames(f"fd_{extractor}", f"fd_{extractor}_infinity", f"kd_{extractor}", f"is_{extractor}")
