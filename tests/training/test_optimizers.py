"""Adam of genmodel.adam beside torch's own."""

import copy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from genmodel.adam import Adam


def trained(kind: type[torch.optim.Adam], steps: int, **options: Any) -> tuple[list[torch.Tensor], dict[str, Any]]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(7, 13), nn.SiLU(), nn.Linear(13, 3))
    optimizer = kind(network.parameters(), 3e-3, **options)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 2 * steps)
    for step in range(2 * steps):
        if step == steps:  # in the middle it is saved and restored
            saved = copy.deepcopy(optimizer.state_dict())
            optimizer.load_state_dict(saved)
        optimizer.zero_grad(set_to_none=True)
        network(torch.randn(5, 7)).square().mean().backward()
        optimizer.step()
        schedule.step()
    return [weight.detach() for weight in network.parameters()], optimizer.state_dict()


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {}, {"betas": (0.5, 0.9), "amsgrad": True}])
def test_updates_and_state_are_torchs_to_the_bit(options: dict[str, Any]) -> None:
    mine, state = trained(Adam, 20, **options)
    theirs, their_state = trained(torch.optim.Adam, 20, **options)
    assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    assert state["param_groups"] == their_state["param_groups"]
    for a, b in zip(state["state"].values(), their_state["state"].values(), strict=True):
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_step_leaves_no_graph() -> None:
    weight = nn.Parameter(torch.ones(3))
    optimizer = Adam([weight])
    weight.square().sum().backward()
    optimizer.step()
    assert weight.grad_fn is None and weight.requires_grad and torch.is_grad_enabled()


TRAINS = """
import sys, torch
from genmodel.config import run_config
from genmodel.settings import EvaluationConfig
from genmodel.models.families import FAMILIES
from genmodel.training.engine import Engine, flatten_optimizer, restore_optimizer
for family in FAMILIES:
    config = run_config({"family": family, "image_size": 8, "training": {"batch_size": 4}}, family)
    model = config.model(config.network, 8)
    model.initialise(torch.Generator())
    engine = Engine(model, config.training, 100)
    engine.step(torch.zeros(engine.images_per_step, 8, 8, 3, dtype=torch.uint8), 0)
    for optimizer in engine.optimizers.values():
        restore_optimizer(optimizer, flatten_optimizer(optimizer))
from genmodel.evaluation.classifier import Adam  # the classifier's
print(sorted({"torch._dynamo", "torchvision", "pandas", "sklearn", "sympy"} & set(sys.modules)))
"""


def test_no_training_imports_the_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINS], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
