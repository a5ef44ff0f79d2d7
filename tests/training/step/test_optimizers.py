"""Players' optimisers: torch's own to the bit, their settings on schedules, and none moved by what is not a number."""

import copy
import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genmodel import adam
from genmodel.models.contract import Adam, Adamax, Player
from genmodel.settings.schedule import Schedule
from genmodel.training.step.optimizers import GuardedOptimizer

Kind = type[torch.optim.Adam] | type[torch.optim.Adamax]
DECLARED = {
    "fused Adam": Adam(lr=3e-3, betas=(0.5, 0.9)),
    "Adam with scheduled betas": Adam(lr=3e-3, betas=(Schedule(0.5, 0.9, 100), Schedule(0.9, 0.99, 100, "linear"))),
    "Adamax": Adamax(lr=3e-3, betas=(0.5, 0.9)),
    "Adamax with scheduled betas": Adamax(lr=3e-3, betas=(Schedule(0.5, 0.9, 100), 0.99)),
}
SOUND, UNSOUND = torch.tensor(True), torch.tensor(False)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(7, 13), nn.SiLU(), nn.Linear(13, 3))


def trained(kind: Kind, steps: int, **options: Any) -> tuple[list[Tensor], dict[str, Any]]:
    moved = network()
    optimizer = kind(moved.parameters(), 3e-3, **options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * steps)
    for step in range(2 * steps):
        if step == steps:  # in the middle it is saved and restored
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer.load_state_dict(saved)
        optimizer.zero_grad(set_to_none=True)
        moved(torch.randn(5, 7)).square().mean().backward()
        optimizer.step()
        schedule.step()
    return [weight.detach() for weight in moved.parameters()], optimizer.state_dict()


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Adam", {"fused": True}),
        ("Adam", {"foreach": True}),
        ("Adam", {}),
        ("Adam", {"betas": (0.5, 0.9), "amsgrad": True}),
        ("Adamax", {}),
        ("Adamax", {"foreach": True, "betas": (0.5, 0.9)}),
    ],
)
def test_updates_and_state_are_torchs_to_the_bit(kind: str, options: dict[str, Any]) -> None:
    mine, state = trained(getattr(adam, kind), 20, **options)
    theirs, their_state = trained(getattr(torch.optim, kind), 20, **options)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert state["param_groups"] == their_state["param_groups"]
    for a, b in zip(state["state"].values(), their_state["state"].values(), strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("kind", [adam.Adam, adam.Adamax])
def test_a_step_leaves_no_graph(kind: Kind) -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = kind([weight])
    weight.square().sum().backward()
    optimizer.step()
    assert weight.grad_fn is None and weight.requires_grad and torch.is_grad_enabled()


class Guarded:
    """A network and its guarded optimiser."""

    def __init__(self, declared: Adam | Adamax) -> None:
        self.network = network()
        self.optimizer = GuardedOptimizer(Player("one", [self.network], declared), torch.device("cpu"))

    def step(self, number: int, sound: Tensor = SOUND, spoil: float = 0.0) -> None:
        """Step `number` of 10 images, whose loss has `spoil` times the weights added."""
        self.optimizer.take(self.optimizer.values(10 * number, 1.0))
        self.network.zero_grad()
        inputs = torch.randn(5, 7, generator=torch.Generator().manual_seed(number))
        loss = self.network(inputs).square().mean()
        if spoil:
            loss = loss + spoil * sum(value.sum() for value in self.network.parameters())
        loss.backward()
        self.optimizer.step(sound)

    def all(self) -> dict[str, Tensor]:
        held = {f"weight {name}": value for name, value in self.network.state_dict().items()}
        return {name: value.clone() for name, value in (held | self.optimizer.flat_state()).items()}


def assert_equal(mine: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert mine.keys() == theirs.keys()
    assert [name for name, value in mine.items() if not torch.equal(value, theirs[name])] == []


@pytest.mark.parametrize("name", DECLARED)
@pytest.mark.parametrize("spoil", [math.nan, math.inf, 0.0], ids=["nan", "inf", "loss alone"])
@pytest.mark.parametrize("at", [0, 1, 4])
def test_an_update_that_is_not_sound_changes_neither_weights_nor_moments(name: str, spoil: float, at: int) -> None:
    """At the first step, too, and it is as if it had not been: what comes after it is the same to the bit."""
    spoiled, other = Guarded(DECLARED[name]), Guarded(DECLARED[name])
    for number in range(at):
        spoiled.step(number)
        other.step(number)
    before = spoiled.all()
    spoiled.step(at, UNSOUND, spoil)
    after = spoiled.all()
    assert_equal({name: after[name] for name in before}, before)
    assert all(not value.any() for name, value in after.items() if name not in before), "a first state is one of zeros"
    for number in range(at + 1, at + 4):
        spoiled.step(number)
        other.step(number)
    assert_equal(spoiled.all(), other.all())
    assert not torch.equal(spoiled.all()["weight 0.weight"], before["weight 0.weight"]), "it does move"


@pytest.mark.parametrize("name", DECLARED)
def test_a_state_that_was_put_back_goes_on_to_the_bit(name: str) -> None:
    whole, cut = Guarded(DECLARED[name]), Guarded(DECLARED[name])
    for number in range(4):
        cut.step(number)
    resumed = Guarded(DECLARED[name])
    resumed.step(9)  # what is loaded takes the place of another state
    resumed.network.load_state_dict(cut.network.state_dict())
    resumed.optimizer.load({name: value.clone() for name, value in cut.optimizer.flat_state().items()})
    assert_equal(resumed.all(), cut.all())
    for number in range(8):
        whole.step(number)
    for number in range(4, 8):
        resumed.step(number)
    assert_equal(resumed.all(), whole.all())


@pytest.mark.parametrize("name", DECLARED)
def test_a_sound_step_is_torchs_with_the_numbers_of_the_moment(name: str) -> None:
    """To the bit; of scheduled settings those that hold after so many images."""
    declared = DECLARED[name]
    mine, theirs = Guarded(declared), network()
    own = {"fused": True} if isinstance(declared, Adam) else {}
    kind: Any = torch.optim.Adam if isinstance(declared, Adam) else torch.optim.Adamax
    optimizer = kind(theirs.parameters(), 3e-3, **own)
    for number in range(12):
        optimizer.param_groups[0]["betas"] = tuple(
            beta.at(10 * number) if isinstance(beta, Schedule) else beta for beta in declared.betas
        )
        optimizer.zero_grad()
        theirs(torch.randn(5, 7, generator=torch.Generator().manual_seed(number))).square().mean().backward()
        optimizer.step()
        mine.step(number)
        for a, b in zip(mine.network.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(a, b), number


def test_learning_rate_and_betas_follow_their_schedules() -> None:
    betas = Schedule(0.5, 0.9, over=100, shape="linear"), 0.99
    one = Guarded(Adam(lr=Schedule(1.0, 0.0, over=200, shape="linear"), betas=betas)).optimizer
    assert one.values(0, 1.0) == (1.0, 0.5, 0.99)
    assert one.values(50, 0.5) == pytest.approx((0.375, 0.7, 0.99)), "the share is that of the rate alone"
    assert one.values(300, 1.0) == (0.0, 0.9, 0.99)
    one.take(one.values(50, 1.0))
    assert one.torch.param_groups[0]["lr"] == 0.75 and one.torch.param_groups[0]["betas"] == pytest.approx((0.7, 0.99))
    assert not one.can_be_captured
    assert Guarded(Adam(lr=Schedule(1.0, 0.0, over=200))).optimizer.can_be_captured


TRAINS = """
import sys, torch
from genmodel.params import run_config
from genmodel.settings.config import EvaluationConfig
from genmodel.models.contract import build_model
from genmodel.models.families import FAMILIES
from genmodel.training.step.engine import Engine
for family in FAMILIES:
    config = run_config({"family": family, "image_size": 8, "training": {"batch_size": 4}}, family)
    engine = Engine(build_model(config, 0), config.training, 100)
    count = engine.images_per_step
    engine.step(torch.zeros(count, 8, 8, 3, dtype=torch.uint8), torch.zeros(count, dtype=torch.int64), 0)
    for optimizer in engine.optimizers.values():
        optimizer.load(optimizer.flat_state())
from genmodel.evaluation.extractors.classifier import Adam  # the classifier's
from genmodel.adam import Adamax
for kind in (Adam, Adamax):
    weight = torch.ones(3, requires_grad=True)
    optimizer = kind([weight])
    weight.sum().backward()
    optimizer.step()
print(sorted({"torch._dynamo", "torchvision", "pandas", "sklearn", "sympy"} & set(sys.modules)))
"""


@pytest.mark.slow
def test_no_training_imports_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
