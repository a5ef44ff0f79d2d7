"""kill -9 at any moment, then the same command: the same end as without."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.showing import display
from genmodel.showing.display import train
from genmodel.training.checkpoint import Checkpoints
from genmodel.training.identity import Identity
from genmodel.training.trainer import run_folder
from tests.kills import KILLS

Remains = Callable[[Path, Path], dict[str, object]]


@pytest.fixture(autouse=True)
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing them takes as long as the steps between them."""
    monkeypatch.setattr(display, "sample_moments", lambda images, per_step: {0, 16, images})


def undamaged(folder: Path) -> bool:
    """Whether every checkpoint that counts is whole: no kill leaves one that has to be passed over."""
    return Checkpoints(folder / "checkpoints").latest()[1] == []


@pytest.mark.fault("kill -9 of a training")
@pytest.mark.slow
@pytest.mark.parametrize(("family", "kills"), [("dcgan", 35 * KILLS), ("vae", 15 * KILLS)])
def test_killed_at_any_time_and_resumed_ends_the_same(
    family: str,
    kills: int,
    block: Block,
    toy_identity: Callable[..., Identity],
    remains: Remains,
    in_child: Callable[..., int],
    tmp_path: Path,
) -> None:
    """50 kills at random times in the lives of both families, several in a training, some of which kill a resume."""
    identity, rng = toy_identity(family, images=160, log_every=28, checkpoint_every=40), random.Random(0)
    train(identity, block, tmp_path / "whole", tmp_path / "whole-runs")  # here, so that all is imported before a fork
    expected = remains(run_folder(identity, tmp_path / "whole-runs"), tmp_path / "whole")
    began = time.monotonic()
    assert in_child(partial(train, identity, block, tmp_path / "timed", tmp_path / "timed-runs")) == 0
    whole = time.monotonic() - began
    killed, ended, lives = 0, 0, 0
    while killed < kills or (tmp_path / f"{ended}-runs").exists():
        out, runs = tmp_path / str(ended), tmp_path / f"{ended}-runs"
        lives += 1
        # a training that is killed again and again gets more time: the machine may have become slower
        limit = rng.uniform(0, (0.6 + 0.1 * lives) * whole) if killed < kills else None
        code = in_child(partial(train, identity, block, out, runs), kill_after=limit)
        if code == 0:
            assert remains(run_folder(identity, runs), out) == expected
            ended, lives = ended + 1, 0
            continue
        assert code == -signal.SIGKILL
        assert undamaged(run_folder(identity, runs))
        killed += 1
    assert killed == kills and ended > kills // 30
    print(f"{killed} kills in {ended} trainings of {whole:.1f} s")


@pytest.mark.fault("kill -9 of a training")
@pytest.mark.slow
def test_killed_at_any_write_and_resumed_ends_the_same(
    block: Block,
    toy_identity: Callable[..., Identity],
    remains: Remains,
    killed_at: Callable[..., int],
    count_writes: Callable[..., tuple[int, int]],
    tmp_path: Path,
) -> None:
    """Before every opening, renaming, removing, and in the middle of every write, from the first checkpoint to the
    published folder: in the loop and in the thread that writes checkpoints."""
    identity = toy_identity(images=32, checkpoint_every=16, log_every=16)
    train(identity, block, tmp_path / "whole", tmp_path / "whole-runs")
    expected = remains(run_folder(identity, tmp_path / "whole-runs"), tmp_path / "whole")
    code, writes = count_writes(partial(train, identity, block, tmp_path / "all", tmp_path / "all-runs"), contents=True)
    assert code == 0 and writes > 80
    for write in range(1, writes + 1):
        out, runs = tmp_path / "out", tmp_path / "runs"
        assert killed_at(write, True, partial(train, identity, block, out, runs), contents=True) == -signal.SIGKILL
        assert undamaged(run_folder(identity, runs))
        train(identity, block, out, runs)
        assert remains(run_folder(identity, runs), out) == expected, write
        shutil.rmtree(out)
        shutil.rmtree(runs)
    print(f"{writes} kills, each at another write")
