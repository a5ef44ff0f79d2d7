"""SIGTERM: saved at the very step, ended with 143, and the same command loses nothing."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from genmodel.data.block import Block
from genmodel.errors import StorageError
from genmodel.files import durable
from genmodel.showing.display import train
from genmodel.training.checkpoint import Checkpoints
from genmodel.training.identity import Identity
from genmodel.training.step.engine import Engine
from genmodel.training.trainer import run_folder

pytestmark = pytest.mark.usefixtures("few_pictures")

Remains = Callable[[Path, Path], dict[str, object]]


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[], list[int]]:
    """steps() -> images_seen at every step so far, in whichever process; a process gets SIGTERM in those that are
    named in the file `terminate`."""
    log, terminate, real = tmp_path / "log", tmp_path / "terminate", Engine.step

    def step(self: Engine, images: Any, labels: Any, images_seen: int) -> None:
        with log.open("a") as handle:
            handle.write(f"{images_seen}\n")
        if str(images_seen) in terminate.read_text().split():
            os.kill(os.getpid(), signal.SIGTERM)
        real(self, images, labels, images_seen)

    monkeypatch.setattr(Engine, "step", step)
    terminate.touch()
    log.touch()
    return lambda: [int(line) for line in log.read_text().split()]


@pytest.mark.slow
@pytest.mark.fault("SIGTERM to a training")
def test_sigterm_loses_no_step(
    block: Block,
    toy_identity: Callable[..., Identity],
    remains: Remains,
    in_child: Callable[..., int],
    steps: Callable[[], list[int]],
    tmp_path: Path,
) -> None:
    """In the first step, in two beside each other, on a checkpoint, in the last."""
    identity = toy_identity()
    expected = remains(train(identity, block, tmp_path / "whole", tmp_path / "whole-runs"), tmp_path / "whole")
    (tmp_path / "log").write_text("")
    moments = [0, 8, 72, 200, 304, 312]
    (tmp_path / "terminate").write_text(" ".join(map(str, moments)))
    again = partial(train, identity, block, tmp_path / "out", tmp_path / "runs")
    for moment in moments:
        assert in_child(again) == 143
        checkpoint, _ = Checkpoints(run_folder(identity, tmp_path / "runs") / "checkpoints").latest()
        assert checkpoint is not None and checkpoint.facts["images_seen"] == moment + 8
        assert not (tmp_path / "out").exists()
    assert in_child(again) == 0
    assert steps() == list(range(0, 320, 8))
    assert remains(run_folder(identity, tmp_path / "runs"), tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.fault("SIGTERM to a training")
def test_more_sigterms_during_the_save_do_no_harm(
    block: Block,
    toy_identity: Callable[..., Identity],
    remains: Remains,
    in_child: Callable[..., int],
    steps: Callable[[], list[int]],
    tmp_path: Path,
) -> None:
    identity = toy_identity()
    expected = remains(train(identity, block, tmp_path / "whole", tmp_path / "whole-runs"), tmp_path / "whole")
    (tmp_path / "log").write_text("")
    (tmp_path / "terminate").write_text("96")
    again = partial(train, identity, block, tmp_path / "out", tmp_path / "runs")

    def slowed() -> None:
        real = Checkpoints._write

        def write(self: Checkpoints, checkpoint: Any) -> None:
            if checkpoint.facts["images_seen"] == 104:
                for _ in range(3):
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.05)
                (tmp_path / "slowed").touch()
            real(self, checkpoint)

        Checkpoints._write = write  # type: ignore[method-assign]
        again()

    assert in_child(slowed) == 143
    assert (tmp_path / "slowed").exists()
    assert in_child(again) == 0
    assert steps() == list(range(0, 320, 8))
    assert remains(run_folder(identity, tmp_path / "runs"), tmp_path / "out") == expected


@pytest.mark.fault("full disk")
def test_a_full_disk_at_the_end_of_a_preempted_training_is_told(
    block: Block, toy_identity: Callable[..., Identity], steps: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not 143: the scheduler and its person must know that the last steps are lost."""
    (tmp_path / "terminate").write_text("96")
    real = Checkpoints._write

    def full(self: Checkpoints, checkpoint: Any) -> None:
        if checkpoint.facts["images_seen"] == 104:
            with durable.storage_errors(self.folder):
                raise OSError(28, "No space left on device")
        real(self, checkpoint)

    monkeypatch.setattr(Checkpoints, "_write", full)
    with pytest.raises(StorageError, match=r"no space left to write .*: free some and run the same command again"):
        train(toy_identity(), block, tmp_path / "out", tmp_path / "runs")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.fault("SIGTERM to a training")
@pytest.mark.slow
def test_the_command_ends_with_143_and_one_line_and_goes_on(block: Block, tmp_path: Path) -> None:
    settings = ["image_size=8", "images=24000", "batch_size=8", "base_channels=4", "latent_dim=6", "threads=1"]
    settings += ["log_every=80"]
    words = [sys.executable, "-m", "genmodel.cli", "train", "dcgan", "--device", "cpu", "--data", str(block.path)]
    words += [word for setting in settings for word in ("--set", setting)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 143, said
    lines = [line for line in said.splitlines() if "left" not in line]  # of the bar
    assert len(lines) == 1 and lines[0].startswith("dcgan: stopped at "), said
    assert lines[0].endswith(" images; the same command resumes from here")
    checkpoint, _ = Checkpoints(next(tmp_path.glob("runs/*/checkpoints"))).latest()
    assert checkpoint is not None
    assert f"{checkpoint.facts['images_seen']:,}" == lines[0].split()[3]
