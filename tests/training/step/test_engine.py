"""The step: fast paths change nothing beyond their rounding; schedules, clipping and accumulation do what they say."""

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genmodel import pixels
from genmodel.models.contract import Batch, Family, Noise, Step, build_model
from genmodel.models.families import FAMILIES
from genmodel.models.parts import convolution
from genmodel.params import run_config
from genmodel.settings.config import RunConfig, TrainingConfig
from genmodel.settings.schedule import value_at
from genmodel.training.step.engine import Engine, rate_share
from tests.small import network_of

ALL = {
    "probability": 0.7,
    "flip": True,
    "rotate90": True,
    "translate": 0.125,
    "geometry": 1.0,
    "colour": 1.0,
    "cutout": 0.5,
}
CASES = [
    ("dcgan", {}),
    ("dcgan", {"r1": 50.0}),
    ("dcgan", {"r1": 50.0, "augment": ALL}),
    ("r3gan", {"gamma": 20.0, "augment": ALL}),
    ("flow", {}),
    ("vae", {}),
]
# relative errors against float64, of a whole gradient as one vector: measured up to 5e-7 and, through both networks of
# a GAN in bf16, 0.09; its losses are within 4e-4
TOLERANCE = {"fp32": 1e-4, "bf16": 0.15, "bf16 by products": 0.15}


def toy(family: str, network: dict[str, Any] | None = None, **training: Any) -> RunConfig:
    network = network_of(family, base_channels=8, latent_dim=6) | (network or {})
    return run_config({"family": family, "image_size": 16, "network": network, "training": training}, "toy")


def images(count: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


def labels(count: int = 8) -> Tensor:
    return torch.zeros(count, dtype=torch.int64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def made(model: Family, batch: Tensor, autocast: bool) -> dict[str, Tensor]:
    """Each update's loss and the whole of its gradient, with all noise from one seed."""
    found: dict[str, Tensor] = {}
    shared: dict[str, Any] = {}
    players = {player.name: player.parameters() for player in model.players()}
    knobs = {name: torch.tensor(value_at(setting, 0)) for name, setting in model.knobs().items()}
    for number, update in enumerate(model.updates()):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss, _ = update.loss(Step(Batch(batch.clone(), labels()), Noise(seeded(number)), knobs, shared))
        gradients = torch.autograd.grad(loss, players[update.player], retain_graph=True)
        found[f"{update.player} loss"] = loss.detach().double()
        found[f"{update.player} gradient"] = torch.cat([gradient.double().flatten() for gradient in gradients])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize(("family", "network"), CASES)
def test_fast_paths_agree_with_the_eager_float64_step(
    family: str, network: dict[str, Any], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """channels_last in fp32, and with bf16 autocast, by oneDNN alone and with weights' gradients by products.

    The R1 penalty's gradient goes through the network twice.
    """
    monkeypatch.setattr(convolution, "_bf16_without_amx", lambda: precision == "bf16 by products")
    config = toy(family, network)
    real = pixels.to_model(images())
    exact = build_model(config, 0).double()
    drawn = Noise.of
    with monkeypatch.context() as patch:  # the same noise, widened
        patch.setattr(Noise, "of", lambda *arguments: drawn(*arguments).double())
        expected = made(exact, real.double().contiguous(), autocast=False)
    fast = build_model(config, 0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    found = made(fast, real, autocast=precision != "fp32")
    assert real.is_contiguous(memory_format=torch.channels_last)
    for name, value in expected.items():
        error = float((found[name] - value).norm() / value.norm())
        assert error < TOLERANCE[precision], f"{name}: {error:.1e}"


def test_the_penalty_moves_the_gradient() -> None:
    """Or its agreement with float64 would say nothing."""
    plain, heavy = (
        made(build_model(toy("dcgan", {"r1": r1}), 0), pixels.to_model(images()), False) for r1 in (0.0, 50.0)
    )
    difference = (plain["discriminator gradient"] - heavy["discriminator gradient"]).norm()
    assert difference > 0.01 * plain["discriminator gradient"].norm()


EAGER = """
import sys, torch
from genmodel.models.contract import build_model
from genmodel.models.families import FAMILIES, load_family
from genmodel.params import run_config
from genmodel.training.step.engine import Engine
for family, *words in [["dcgan", "r1=10"], *([family] for family in FAMILIES)]:
    if hasattr(load_family(family).Config, "base_channels"):
        words.append("base_channels=16")
    config = run_config({"family": family, "image_size": 16, "training": {"batch_size": 4}}, "toy", words)
    engine = Engine(build_model(config, 2), config.training, budget=100)
    images = torch.randint(256, (engine.images_per_step, 16, 16, 3), dtype=torch.uint8)
    engine.step(images, torch.zeros(len(images), dtype=torch.int64), 0)
    assert all(value == value for value in engine.means().values()), family
    assert "torch._dynamo" not in sys.modules, family
"""


@pytest.mark.slow
def test_no_step_of_any_family_goes_through_the_compiler() -> None:
    """It has not even been imported; a gradient of a gradient through compiled code can be wrong."""
    done = subprocess.run(
        [sys.executable, "-c", EAGER], capture_output=True, text=True, cwd=Path(__file__).parents[3], timeout=120
    )
    assert done.returncode == 0, done.stderr


def trained(config: RunConfig, steps: int = 3, batch: Tensor | None = None) -> Engine:
    engine = Engine(build_model(config, 0), config.training, budget=1_000)
    batch = images() if batch is None else batch
    for number in range(steps):
        engine.step(batch, labels(len(batch)), number * engine.images_per_step)
    return engine


def weights(network: nn.Module) -> Tensor:
    return torch.cat([value.detach().flatten() for value in network.parameters()])


def test_a_batch_in_parts_gives_the_gradient_of_the_whole() -> None:
    """Of the VAE, which has no batch normalisation."""
    whole, parts = (
        trained(toy("vae", {"learning_rate": 1e-3}, batch_size=8, accumulate=parts), 1).means() for parts in (1, 4)
    )
    assert parts == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_long_gradients_are_shortened(family: str) -> None:
    free = trained(toy(family, batch_size=8), 1)
    norms = {name: value for name, value in free.means().items() if name.startswith("gradient/")}
    clipped = trained(toy(family, batch_size=8, clip_norm=1e-3), 1)
    assert all(value > 1e-3 for value in norms.values())
    for optimizer in clipped.optimizers.values():
        left = torch.cat([value.grad.flatten() for value in optimizer.parameters if value.grad is not None])
        assert left.norm().item() == pytest.approx(1e-3, rel=1e-3)
    first = "gradient/" + clipped.updates[0].player
    assert clipped.means()[first] == pytest.approx(norms[first], rel=1e-5)  # what is recorded is the length before


def test_several_discriminator_steps_take_a_batch_each() -> None:
    engine = trained(toy("dcgan", {"discriminator_steps": 3}, batch_size=8), 2, batch=images(24))
    assert engine.images_per_step == 24
    counts = {name: optimizer.flat_state()["0.step"].item() for name, optimizer in engine.optimizers.items()}
    assert counts == {"generator": 2, "discriminator": 6}


@pytest.mark.parametrize(
    ("schedule", "warmup", "seen", "share"),
    [
        ("constant", 0, 500, 1.0),
        ("linear", 0, 250, 0.75),
        ("cosine", 0, 0, 1.0),
        ("cosine", 0, 250, 0.5 * (1 + math.cos(math.pi / 4))),
        ("cosine", 0, 1_000, 0.0),
        ("constant", 100, 0, 0.1),
        ("constant", 100, 40, 0.5),
        ("linear", 100, 500, 0.5),
    ],
)
def test_learning_rates_are_closed_forms_of_images_seen(schedule: Any, warmup: int, seen: int, share: float) -> None:
    config = TrainingConfig(schedule=schedule, warmup=warmup, batch_size=10)
    assert rate_share(config, seen, budget=1_000) == pytest.approx(share)


def test_a_rate_of_nothing_moves_nothing() -> None:
    engine = Engine(
        build_model(toy("vae", batch_size=8, schedule="linear"), 0), TrainingConfig(schedule="linear"), 1_000
    )
    before = weights(engine.model)
    engine.step(images(), labels(), 1_000)
    assert torch.equal(weights(engine.model), before)
    engine.step(images(), labels(), 0)
    assert not torch.equal(weights(engine.model), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_an_update_that_is_not_finite_changes_no_weight(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the player that sees the bad images; a generator sees none."""
    engine = trained(toy(family, batch_size=8), 1)
    optimizer = engine.optimizers[engine.updates[0].player]
    learned = lambda: torch.cat([value.detach().flatten() for value in optimizer.parameters])  # noqa: E731
    before, moments = learned(), {name: value.clone() for name, value in optimizer.flat_state().items()}
    monkeypatch.setattr(pixels, "to_model", lambda part: torch.full((len(part), 3, 16, 16), math.nan))
    engine.step(images(), labels(), 8)
    assert torch.equal(learned(), before)
    after = optimizer.flat_state()
    assert all(torch.equal(after[name], value) for name, value in moments.items())
    assert int(engine.bad_steps) == 1
    monkeypatch.undo()
    means = engine.means()
    assert means["health/bad_steps"] == 0.5
    assert all(math.isfinite(value) for value in means.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("family", "network"), CASES)
def test_the_captured_step_is_the_eager_one(family: str, network: dict[str, Any]) -> None:
    """Ten steps, of which seven are replays, against ten eager ones: the same bytes."""
    config = toy(family, network, batch_size=8, deterministic=True)
    ends = []
    for captured in (True, False):
        model = build_model(config, 0).to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
        engine = Engine(model, config.training, budget=1_000)
        if not captured:
            engine._captured = None
        for number in range(10):
            engine.step(images().cuda(), labels().cuda(), number * 8)
        ends.append((weights(engine.model), engine.means()))
    assert torch.equal(ends[0][0], ends[1][0])
    assert ends[0][1] == ends[1][1]
