"""What a training reports to a watcher; nothing that a watcher does affects the weights."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from genmodel.models.contract import Family
from genmodel.settings.config import TrainingConfig


class Watcher:
    """Does nothing, and so costs nothing. genmodel/showing/display.py draws pictures and reads gauges."""

    def begin(
        self,
        folder: Path,
        device: torch.device,
        config: TrainingConfig,
        images_per_step: int,
        clock: Literal["linear", "log"],
    ) -> None:
        """A training begins or resumes; its record is in `folder`, `clock` is its family's."""

    def watching(self) -> contextlib.AbstractContextManager[None]:
        """Around all steps."""
        return contextlib.nullcontext()

    def phase(self, name: str) -> contextlib.AbstractContextManager[None]:
        """Around a part of a step: data, step, samples, checkpoint."""
        return contextlib.nullcontext()

    def stepped(self) -> None:
        """After each step and everything that follows it."""

    def wants_samples(self, images_seen: int) -> bool:
        return False

    def take_samples(self, images_seen: int, model: Family) -> None:
        """The model as it would be now, with its averaged weights, in eval mode."""

    def costs(self) -> dict[str, float]:
        """Metrics of the work since the last row: shares of the time, memory, energy."""
        return {}

    def facts(self) -> dict[str, Any]:
        """For a checkpoint, as JSON: what `restore` gets when the training resumes from there."""
        return {}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go back to a checkpoint."""

    def diverged(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """The training ends here; `rows` are its record. Returns what to append to the record's path in the error."""
        return ""

    def publish(self, folder: Path, model: Family) -> None:
        """Add to the folder of the finished `model`, before it is sealed."""
