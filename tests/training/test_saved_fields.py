"""A checkpoint holds no field that a resume does not need: each is dropped in turn, and seen to be missed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genmodel.data.block import Block
from genmodel.models.contract import Step
from genmodel.models.vae import VAE
from genmodel.showing import display
from genmodel.showing.display import train
from genmodel.training.checkpoint import Checkpoint, Checkpoints
from genmodel.training.identity import Identity
from genmodel.training.step.engine import Engine
from tests.training.cutting import cut_short

Remains = Callable[[Path, Path], dict[str, object]]
FIRST = {
    "images_seen": 0,
    "summed": 0,
    "lowered": 1.0,
    "seconds": 0.0,
    "energy_kwh": 0.0,
}  # what a training begins with


def set_trouble(patch: pytest.MonkeyPatch) -> None:
    """Few pictures, and a loss that is not a number from step 12 on, as long as the learning rate is the full one."""
    real, prepare = VAE._loss, Engine._prepare
    full = True

    def prepared(self: Engine, images_seen: int) -> None:
        nonlocal full
        prepare(self, images_seen)
        full = self.optimizers["vae"].torch.param_groups[0]["lr"] == self.model.config.learning_rate

    def loss(self: VAE, step: Step) -> Any:
        value, metrics = real(self, step)
        return value * (torch.nan if full and step.noise.rng.initial_seed() >= 12 else 1), metrics

    patch.setattr(Engine, "_prepare", prepared)
    patch.setattr(VAE, "_loss", loss)
    patch.setattr(display, "sample_moments", lambda images, per_step: {0, images})


@pytest.fixture(scope="module")
def whole(
    block: Block, toy_identity: Callable[..., Identity], remains: Remains, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, object]:
    """What a training in trouble leaves that nobody has stopped."""
    folder, identity = tmp_path_factory.mktemp("whole"), toy_identity("vae")
    with pytest.MonkeyPatch.context() as patch:
        set_trouble(patch)
        return remains(train(identity, block, folder / "out", folder / "runs"), folder / "out")


def resumed_without(dropped: str, patch: pytest.MonkeyPatch) -> None:
    """From now on a resume finds `dropped`, a group of tensors or a fact, as a training begins with it."""
    load, latest = Engine.load, Checkpoints.latest

    def load_less(self: Engine, held: dict[str, torch.Tensor]) -> None:
        own = {name: value.clone() for name, value in self.state().items()}
        kept = {name: value for name, value in held.items() if not name.startswith(dropped)}
        load(self, kept | {name: value for name, value in own.items() if name.startswith(dropped)})

    def latest_less(self: Checkpoints, regular: bool = False) -> tuple[Checkpoint | None, list[str]]:
        found, warnings = latest(self, regular)
        if found is not None and dropped in found.facts:
            found.facts[dropped] = FIRST[dropped]
        return found, warnings

    patch.setattr(Engine, "load", load_less)
    patch.setattr(Checkpoints, "latest", latest_less)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dropped", "matters"),
    [
        ("nothing", False),
        *((name, True) for name in ("model.", "ema.", "optimizer.", "sums.", "images_seen", "summed", "lowered")),
        ("seconds", False),  # these two tell the cost: no weight and no row depends on them
        ("energy_kwh", False),
    ],
)
def test_no_saved_field_is_more_than_a_resume_needs(
    dropped: str,
    matters: bool,
    whole: dict[str, object],
    block: Block,
    toy_identity: Callable[..., Identity],
    remains: Remains,
    tmp_path: Path,
) -> None:
    """Stopped at a checkpoint, in the middle of a row, after the learning rates were lowered."""
    identity = toy_identity("vae")
    with pytest.MonkeyPatch.context() as patch:
        set_trouble(patch)
        cut = cut_short(identity, block, tmp_path, 160)
        assert cut.engine.lowered < 1 and cut.engine.summed > 0
        resumed_without(dropped, patch)
        found = remains(train(identity, block, tmp_path / "out", tmp_path), tmp_path / "out")
    assert (found != whole) == matters
