"""Rows of reference for the leaderboard: val images are the ceiling, the same ones blurred and noise the floor.

They are judged by the same figures as models, and never ranked or registered. Reading them needs no torch.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from genmodel.errors import EvaluationError
from genmodel.evaluation.report import Judged
from genmodel.files import durable

if TYPE_CHECKING:
    from torch import Tensor

FILE = "bounds.json"
_FIX = "run `dvc repro -f -s reference` first"
_SOFT = 4  # a blurred image has a quarter of the pixels along each side, stretched again


def _real(images: "Tensor") -> "Tensor":
    """uint8 [N, H, W, C], as are all here."""
    return images


def _blurred(images: "Tensor") -> "Tensor":
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    height, width = images.shape[1:3]
    few = adaptive_avg_pool2d(images.permute(0, 3, 1, 2).float(), (max(2, height // _SOFT), max(2, width // _SOFT)))
    smooth = interpolate(few, size=(height, width), mode="bilinear", align_corners=False)
    return smooth.round().byte().permute(0, 2, 3, 1).contiguous()


def _noise(images: "Tensor") -> "Tensor":
    """Every value of uint8 [N, H, W, C] that of another place in another image: the levels stay, and nothing else."""
    import torch

    order = torch.randperm(images.numel(), generator=torch.Generator().manual_seed(0))
    return images.flatten()[order].view_as(images)


BOUNDS: Mapping[str, Callable[["Tensor"], "Tensor"]] = {  # best first
    "val images": _real,
    "blurred val images": _blurred,
    "noise": _noise,
}


def write(path: Path, judged: Mapping[str, Judged]) -> None:
    durable.write_sealed(path, {"bounds": {name: each.as_dict() for name, each in judged.items()}})


def read(path: Path) -> dict[str, Judged]:
    """What `write` wrote; EvaluationError if it is missing or damaged."""
    told = durable.read_sealed(path, EvaluationError, _FIX)["bounds"]
    return {name: Judged.from_dict(told[name], f"{path}: {name}") for name in BOUNDS if name in told}


def of_conditions(bounds: Mapping[str, Judged], like: Judged) -> dict[str, Judged]:
    """Those that may be set beside `like`: judged under its conditions, but for the number of images."""
    asked = like.conditions
    return {name: each for name, each in bounds.items() if replace(each.conditions, n_samples=asked.n_samples) == asked}
