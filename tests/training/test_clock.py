"""A clock that is set a day ahead, or back, while a training runs: the same model, checkpoints and rows."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genmodel.data.block import Block
from genmodel.showing.display import train
from genmodel.training.identity import Identity
from tests.training.cutting import cut_short

_DAY = 86_400


@pytest.mark.slow
@pytest.mark.fault("clock moved")
@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize("moved", [_DAY, -_DAY])
def test_a_training_over_a_day_that_comes_twice_or_not_at_all(
    moved: int, block: Block, toy_identity: Callable[..., Identity], remains: Callable[[Path, Path], dict[str, object]],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """It is interrupted, too: the checkpoint of before is the newest, whatever its time says."""
    identity = toy_identity("vae")
    expected = remains(train(identity, block, tmp_path / "whole", tmp_path / "whole-runs"), tmp_path / "whole")
    cut_short(identity, block, tmp_path / "runs", 200)
    second, nanosecond = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: second() + moved)
    monkeypatch.setattr(time, "time_ns", lambda: nanosecond() + moved * 1_000_000_000)
    folder = train(identity, block, tmp_path / "out", tmp_path / "runs")
    monkeypatch.undo()
    found: dict[str, Any] = remains(folder, tmp_path / "out")
    assert found == expected
