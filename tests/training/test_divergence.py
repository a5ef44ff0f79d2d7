"""Losses, gradients and statistics that are not numbers: no weight learns from them, and a training that cannot be
saved says so."""

import json
import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.errors import TrainingDivergedError
from genmodel.models.contract import Step
from genmodel.models.dcgan import DCGAN
from genmodel.showing.display import Display, train
from genmodel.training.checkpoint import Checkpoints
from genmodel.training.identity import Identity
from genmodel.training.step.engine import Engine
from genmodel.training.trainer import Training, run_folder

pytestmark = pytest.mark.usefixtures("few_pictures")

Remains = Callable[[Path, Path], dict[str, object]]
Spoil = Callable[[DCGAN, Tensor], Tensor]


def no_loss(model: DCGAN, loss: Tensor) -> Tensor:
    return loss * torch.nan


def no_gradient(model: DCGAN, loss: Tensor) -> Tensor:
    """The loss is right, its gradient is not: 0 * d sqrt(0)."""
    return loss + (0 * next(model.generator.parameters()).sum()).sqrt()


def no_statistics(model: DCGAN, loss: Tensor) -> Tensor:
    """As a batch whose activations overflow leaves them."""
    for name, value in model.generator.named_buffers():
        if name.endswith("running_var"):
            value.data.fill_(torch.inf)  # of which the backward pass knows nothing
    return loss


def spoil_steps(patch: pytest.MonkeyPatch, steps: set[int], how: Spoil, cured: bool = True) -> None:
    """Spoil the generator's update in the given steps; `cured` by a lower learning rate."""
    real, prepare = DCGAN._generator_loss, Engine._prepare
    full = True

    def prepared(self: Engine, images_seen: int) -> None:
        nonlocal full
        prepare(self, images_seen)
        rate = self.optimizers["generator"].torch.param_groups[0]["lr"]
        full = rate == self.model.config.generator_learning_rate

    def loss(self: DCGAN, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
        value, metrics = real(self, step)
        return (how(self, value) if step.noise.rng.initial_seed() in steps and (full or not cured) else value), metrics

    patch.setattr(Engine, "_prepare", prepared)
    patch.setattr(DCGAN, "_generator_loss", loss)


@pytest.mark.slow
@pytest.mark.parametrize("how", [no_loss, no_gradient])
@pytest.mark.parametrize("steps", [{9}, {9, 10}])
def test_one_or_two_bad_steps_change_no_weight_and_the_training_goes_on(
    how: Spoil,
    steps: set[int],
    block: Block,
    toy_identity: Callable[..., Identity],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil_steps(monkeypatch, steps, how)
    held: dict[int, list[bytes]] = {}
    real = Engine.step

    def step(self: Engine, images: Tensor, labels: Tensor, images_seen: int) -> None:
        own = self.state()
        moments = [name for name in own if name.startswith(("model.generator.", "optimizer.generator."))]
        learned = [name for name in moments if "running" not in name and "num_batches" not in name]
        before = [own[name].numpy().tobytes() for name in learned]
        real(self, images, labels, images_seen)
        after = self.state()
        held[images_seen // 8] = [n for n, v in zip(learned, before, strict=True) if after[n].numpy().tobytes() != v]

    monkeypatch.setattr(Engine, "step", step)
    folder = train(toy_identity(log_every=40), block, tmp_path / "out", tmp_path / "runs")
    assert {number for number, changed in held.items() if not changed} == steps
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    told = {row["step"]: row["metrics"]["health/bad_steps"] for row in rows}
    assert told == pytest.approx({n: len(steps & set(range(n - 5, n))) / 5 for n in range(5, 41, 5)})


@pytest.mark.slow
@pytest.mark.parametrize("how", [no_loss, no_gradient, no_statistics])
def test_trouble_goes_back_lowers_the_rates_once_and_survives_a_kill(
    how: Spoil,
    block: Block,
    toy_identity: Callable[..., Identity],
    remains: Remains,
    in_child: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Bad from step 15 on, until the rates are lower; then killed in the 22nd step, after the going back."""
    spoil_steps(monkeypatch, set(range(15, 40)), how)
    identity = toy_identity()
    expected = remains(train(identity, block, tmp_path / "whole", tmp_path / "whole-runs"), tmp_path / "whole")
    assert capsys.readouterr().err.count("back to image 80, with 0.5 times the learning rates") == 1
    assert expected["lowered"] == 0.5
    again = partial(train, identity, block, tmp_path / "out", tmp_path / "runs")
    for last in (14, 22):  # the first leaves checkpoints from before the going back alone

        def until_killed(last: int = last) -> None:
            real = Engine.step

            def step(self: Engine, images: Tensor, labels: Tensor, images_seen: int) -> None:
                if images_seen >= 8 * last and (last == 14 or self.lowered < 1):
                    os.kill(os.getpid(), signal.SIGKILL)
                real(self, images, labels, images_seen)

            Engine.step = step  # type: ignore[method-assign]
            again()

        assert in_child(until_killed) == -signal.SIGKILL
    again()
    assert remains(run_folder(identity, tmp_path / "runs"), tmp_path / "out") == expected


@pytest.mark.slow
@pytest.mark.parametrize("how", [no_loss, no_gradient, no_statistics])
def test_trouble_that_stays_fails_with_the_curves(
    how: Spoil,
    block: Block,
    toy_identity: Callable[..., Identity],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil_steps(monkeypatch, set(range(15, 40)), how, cured=False)
    identity = toy_identity()
    for _ in range(2):  # the same command fails the same way
        with pytest.raises(TrainingDivergedError, match=r"not finite near image .* even with lower learning rates"):
            train(identity, block, tmp_path / "out", tmp_path / "runs")
    folder = run_folder(identity, tmp_path / "runs")
    assert (folder / "curves.png").stat().st_size > 1_000
    assert not (tmp_path / "out").exists()
    checkpoint, warnings = Checkpoints(folder / "checkpoints").latest()
    assert checkpoint is not None and not warnings
    assert all(value.isfinite().all() for value in checkpoint.tensors.values())


def test_no_checkpoint_is_saved_in_the_middle_of_bad_steps(
    block: Block, toy_identity: Callable[..., Identity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bad steps up to where one is due, or up to a SIGTERM: the one before stays the place to go back to."""
    spoil_steps(monkeypatch, {8, 9}, no_loss)
    training = Training(toy_identity(), block, tmp_path, "cpu", fresh=False, watcher=Display())
    while training.images_seen < 80:
        training.step()
        training.record_and_save()
    with pytest.raises(SystemExit, match="143"):
        training.leave()
    assert sorted(path.stem for path in training.checkpoints.folder.glob("*.json")) == ["000000000000"]


@pytest.mark.slow
def test_one_that_was_stopped_goes_back_as_if_it_had_not_been(
    block: Block,
    toy_identity: Callable[..., Identity],
    remains: Remains,
    in_child: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stopped twice between the checkpoint at image 80 and the trouble in step 15, and once after the going back."""
    spoil_steps(monkeypatch, set(range(15, 40)), no_loss)
    identity = toy_identity()
    expected = remains(train(identity, block, tmp_path / "whole", tmp_path / "whole-runs"), tmp_path / "whole")
    for last, lowered in ((11, False), (13, False), (12, True)):

        def stopped(last: int = last, lowered: bool = lowered) -> None:
            real = Engine.step

            def step(self: Engine, images: Tensor, labels: Tensor, images_seen: int) -> None:
                if images_seen == 8 * last and (self.lowered < 1) == lowered:
                    os.kill(os.getpid(), signal.SIGTERM)
                real(self, images, labels, images_seen)

            Engine.step = step  # type: ignore[method-assign]
            train(identity, block, tmp_path / "out", tmp_path / "runs")

        assert in_child(stopped) == 143
    folder = train(identity, block, tmp_path / "out", tmp_path / "runs")
    assert remains(folder, tmp_path / "out") == expected
    kept = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert kept == [f"{seen:012d}.{kind}" for seen in (240, 320) for kind in ("json", "safetensors")]
