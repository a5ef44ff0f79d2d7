"""Checkpoints: one tensor file with everything a resume needs, checked by its digest; the last two are kept."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genmodel import durable, tensors
from genmodel.errors import CheckpointError, ModelError

_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by dotted name, and `facts`: what is no tensor (images_seen, step, ...)."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


class Checkpoints:
    """The folder of one run's checkpoints: <images_seen>.safetensors and, written after it, <images_seen>.json with
    its digest. A file without its digest was never finished and does not count."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, checkpoint: Checkpoint) -> None:
        name = f"{checkpoint.facts['images_seen']:012d}"
        digest = tensors.save(self.folder / f"{name}.safetensors", checkpoint.tensors)
        durable.write_json(self.folder / f"{name}.json", {"sha256": digest, "facts": checkpoint.facts})
        for old in self._finished()[:-_KEPT]:
            old.unlink()
            old.with_suffix(".safetensors").unlink(missing_ok=True)

    def latest(self) -> tuple[Checkpoint | None, list[str]]:
        """The newest checkpoint that is whole (None when there are none at all), and a warning for each damaged one
        that was passed over. CheckpointError when there are some and all are damaged."""
        warnings: list[str] = []
        for manifest in reversed(self._finished()):
            try:
                return self._load(manifest), warnings
            except CheckpointError as error:
                warnings.append(str(error))
        if warnings:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({warnings[0]}): start anew with --fresh"
            )
        return None, warnings

    def _load(self, manifest: Path) -> Checkpoint:
        path = manifest.with_suffix(".safetensors")
        try:
            content = json.loads(manifest.read_bytes())
            loaded, _ = tensors.load(path, content["sha256"])
            return Checkpoint(loaded, content["facts"])
        except (ValueError, KeyError, TypeError, ModelError) as error:
            raise CheckpointError(f"checkpoint {path.name} is damaged: {error}") from error

    def _finished(self) -> list[Path]:
        return sorted(self.folder.glob("*.json"))


def flatten_optimizer(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as tensors named "<parameter index>.<field>"; its settings come from the configuration."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{field}": value for index, fields in state.items() for field, value in fields.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, flat: Mapping[str, Tensor]) -> None:
    """Put back what flatten_optimizer gave.

    Moments take their weight's memory layout: a fused step walks through both side by side, and a checkpoint is
    contiguous where the weights are channels_last.
    """
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    for name, value in flat.items():
        index, field = name.split(".", 1)
        weight = weights[int(index)]
        like = torch.empty_like(weight, dtype=value.dtype) if value.shape == weight.shape else torch.empty_like(value)
        optimizer.state[weight][field] = like.copy_(value)
