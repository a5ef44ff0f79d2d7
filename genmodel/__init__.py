"""genmodel: the science of a retraining line for image generators. In a notebook:

    import genmodel

    block = genmodel.open_block("data")
    model = genmodel.load_model("models/vae")
    images = model.sample(16, seed=3)                # uint8 [16, H, W, C], the same for the same seed
    report = genmodel.evaluate("models/vae", block)
    report.figures["fd_classifier"]

Nothing here knows Prefect, MLflow or DVC, and importing it does nothing: torch is loaded on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genmodel.notebook import Model, evaluate, load_model, open_block

__version__ = "0.1.0"
__all__ = ["Model", "evaluate", "load_model", "open_block"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'genmodel' has no attribute {name!r}")
    from genmodel import notebook

    return getattr(notebook, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
