"""Which direction of a figure is better, as a heading tells it."""

from genmodel.evaluation.table import Figure

LESS = "↓ lower is better"
_WORDS = {
    "lower": LESS,
    "higher": "↑ higher is better",
    "nearer 1": "→1 nearer 1 is better",
    "neither": "– neither is better",
}


def direction(figure: Figure) -> str:
    """Of a figure, in a few words."""
    return _WORDS[figure.better]
