"""A picture of a finished model's samples on request: of one class, or with a row per class."""

from collections.abc import Sequence
from pathlib import Path

from genmodel.errors import ConfigError
from genmodel.sampling.draw import sample, sample_classes
from genmodel.sampling.load import load_model
from genmodel.sampling.requests import find_class
from genmodel.showing.grids import save_grid
from genmodel.showing.samples import CLASSES, COLUMNS

_N = 64


def classes_of(folder: Path) -> list[str]:
    """The names of the classes that can be asked of the model in `folder`, in the order of their numbers."""
    model, about = load_model(folder)
    if not model.classes:
        raise ConfigError(f"--classes: {folder}: it is not conditional and has no classes")
    return [str(name) for name in about["classes"]]


def save_samples(folder: Path, out: Path, n: int | None, seed: int, label: str | None, device: str) -> str:
    """Draw `n` samples of the model in `folder` to a PNG; returns what it shows.

    `label` is a class by name or number; without it a conditional model draws a row of `n` for each of the first
    CLASSES classes. ConfigError for a class that it does not have.
    """
    model, about = load_model(folder, device)
    names = [str(name) for name in about["classes"]] if model.classes else []
    if label is None and names:
        shown, columns = names[:CLASSES], n or COLUMNS
        save_grid(out, sample_classes(model, columns, seed, range(len(shown))), columns)
        of = f" (of {len(names):,} classes)" if len(names) > len(shown) else ""
        return f"{out}: one row per class: {', '.join(shown)}{of}"
    if label is None:
        images = sample(model, n or _N, seed)
    else:
        images = sample_classes(model, n or _N, seed, [label_of(folder, names, label)])
    save_grid(out, images)
    return str(out)


def label_of(folder: Path, names: Sequence[str], asked: str) -> int:
    """The class `asked`, by name or number, of the model in `folder`; ConfigError if it has none such."""
    try:
        return find_class(names, asked)
    except ValueError as error:
        raise ConfigError(f"--class: {folder}: {error}") from error
