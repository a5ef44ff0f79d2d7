"""Trainings that are killed, and what is left of those that end."""

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from genmodel.data.block import Block
from genmodel.showing.display import train
from genmodel.training.identity import Identity
from genmodel.training.step.engine import Engine
from genmodel.training.trainer import run_folder


def published(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def killed_after(images: int, again: Callable[[], object]) -> None:
    real = Engine.step

    def step(self: Engine, *batch: Any, **more: Any) -> None:
        if batch[-1] >= images:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, *batch, **more)

    Engine.step = step  # type: ignore[method-assign]
    again()


def assert_ends_the_same(who: Identity, block: Block, in_child: Callable[..., int], folder: Path) -> None:
    """A training that is killed twice, in `folder`/out, publishes the bytes of one that is not."""
    train(who, block, folder / "whole", folder / "whole-runs")
    again = partial(train, who, block, folder / "out", folder / "runs")
    for images in (100, 230):
        assert in_child(partial(killed_after, images, again)) == -signal.SIGKILL
    assert list((run_folder(who, folder / "runs") / "checkpoints").iterdir())
    again()
    assert published(folder / "out") == published(folder / "whole")
