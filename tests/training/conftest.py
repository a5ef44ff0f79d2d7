"""Toy trainings, and all that is left of one."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.params import run_config
from genmodel.training.checkpoint import Checkpoints
from genmodel.training.identify import identify
from genmodel.training.identity import Identity
from genmodel.training.record import _TIMED
from genmodel.training.rows import from_line

_TRAINING = {"batch_size": 8, "threads": 1, "images": 320, "log_every": 56, "checkpoint_every": 80}


@pytest.fixture(scope="session")
def toy_identity(block: Block) -> Callable[..., Identity]:
    """toy_identity(family, **training) -> what makes a training of 40 steps at 8 px, its rows out of step with its
    checkpoints."""

    def make(family: str = "dcgan", **training: object) -> Identity:
        values = {"family": family, "image_size": 8, "network": {"base_channels": 4, "latent_dim": 6}}
        return identify("toy", run_config(values | {"training": _TRAINING | training}, "toy"), block)

    return make


def _remains(folder: Path, out: Path) -> dict[str, object]:
    checkpoint, warnings = Checkpoints(folder / "checkpoints").latest()
    assert checkpoint is not None and not warnings
    found: dict[str, object] = {name: value.numpy().tobytes() for name, value in checkpoint.tensors.items()}
    found |= {name: value for name, value in checkpoint.facts.items() if name not in ("seconds", "energy_kwh")}
    rows = [from_line(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        del row["time_ms"]
        row["metrics"] = {name: value for name, value in row["metrics"].items() if not name.startswith(_TIMED)}
    found["rows"] = json.dumps(rows)  # as text, where NaN equals NaN
    published = (path for path in out.rglob("*") if path.is_file())
    return found | {f"published {path.relative_to(out)}": path.read_bytes() for path in published}


@pytest.fixture(scope="session")
def remains() -> Callable[[Path, Path], dict[str, object]]:
    """remains(run's folder, out) -> all that two trainings must agree in: every tensor and fact of the last
    checkpoint, the rows without times, every published byte."""
    return _remains
