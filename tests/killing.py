"""Trainings that are killed, and what is left of those that end."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genmodel.training.step.engine import Engine


def published(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed_after(images: int, again: Callable[[], object]) -> None:
    real = Engine.step

    def step(self: Engine, *batch: Any) -> None:
        if batch[-1] >= images:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, *batch)

    Engine.step = step  # type: ignore[method-assign]
    again()
