"""Grids of a training's samples, drawn from the same codes at chosen moments; stored beside its record."""

import bisect
from collections.abc import Iterable
from pathlib import Path

from PIL import Image
from torch import Tensor

from genmodel.files import durable
from genmodel.models.contract import Family
from genmodel.sampling.draw import sample, sample_classes
from genmodel.showing.grids import save_grid, timeline
from genmodel.sizes import Size

COLUMNS, _ROWS = 8, 8  # of a grid
CLASSES = 16  # at most, a row each
_LINEAR = 32  # equal parts of a training; a grid is drawn at the end of each


def grid_of(model: Family, seed: int) -> Tensor:
    """Samples for a grid, uint8 [N, H, W, C], always from the same codes; for a conditional model a row per class, with
    the same noise down each column."""
    if not model.classes:
        return sample(model, COLUMNS * _ROWS, seed)
    return sample_classes(model, COLUMNS, seed, range(min(model.classes, CLASSES)))


class SampleGrids:
    """The pictures in the folder `samples` of a run's folder, each named by the images seen by then."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "samples"
        with durable.storage_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)

    def add(self, images_seen: int, images: Tensor) -> None:
        """Keep a grid of uint8 [N, H, W, C] samples; one kept before a resume would be equal."""
        path = self.folder / f"{images_seen:010d}.png"
        if not path.exists():
            save_grid(path, images, COLUMNS)

    def paths(self) -> dict[int, Path]:
        """The grids by images seen, in their order."""
        return {int(path.stem): path for path in sorted(self.folder.glob("*.png"))}

    def timeline(self, columns: int, size: Size) -> Image.Image:
        """The log-spaced grids as one picture, a row for each moment; a grid's row has `columns` images of `size`."""
        grids = self.paths()
        moments = {seen: Image.open(grids[seen]) for seen in log_spaced(grids)}
        return timeline(moments, columns, size)


def sample_moments(images: int, images_per_step: int) -> set[int]:
    """The images_seen at which grids are drawn: the start, the end, and between them log-spaced and linearly spaced.

    The log-spaced moments are the powers of two in the last ten doublings: models with different budgets are drawn at
    the same moments and can be compared. They show the fast early changes, as in OpenAI's 2016 post, which replays a
    VAE's training in logarithmic time; the linear ones, 32 equal parts, are for GANs, which it replays in linear time.
    Each is rounded up to whole steps.
    """
    end = _whole_steps(images, images_per_step)
    powers = {2**k for k in range(end.bit_length()) if end / 1024 <= 2**k < end}
    parts = {-(-end * part // _LINEAR) for part in range(_LINEAR + 1)}
    return {_whole_steps(moment, images_per_step) for moment in powers | parts}


def _whole_steps(images: int, images_per_step: int) -> int:
    return -(-images // images_per_step) * images_per_step


def log_spaced(moments: Iterable[int]) -> list[int]:
    """Those of sample_moments that are powers of two, rounded up in the same way, and the first and the last."""
    ordered = sorted(moments)
    powers = [2**k for k in range(ordered[-1].bit_length())]
    # moments are whole steps: there is none between a power and the moment it was rounded up to
    return sorted({ordered[0], ordered[-1]} | {ordered[bisect.bisect_left(ordered, power)] for power in powers})
