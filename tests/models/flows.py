"""Small flows for tests."""

from typing import Any

import torch
from torch import Tensor

from genmodel.models.contract import build_model
from genmodel.models.flow import Flow
from genmodel.params import run_config

SMALL = {"base_channels": 4, "max_channels": 8, "blocks": 1, "steps": 4}


def model_of(classes: int = 0, size: object = 8, channels: int = 1, **network: Any) -> Flow:
    settings = SMALL | {"conditional": classes > 0} | network
    made = build_model(
        run_config({"family": "flow", "image_size": size, "network": settings}, "toy"), classes, channels
    )
    assert isinstance(made, Flow)
    return made.eval().requires_grad_(False)


def awake(model: Flow, by: float = 0.1) -> Flow:
    """As later in a training: at first each block is its skip."""
    rng = torch.Generator().manual_seed(1)
    for weight in model.parameters():
        weight.add_(by * torch.randn(weight.shape, generator=rng))
    return model


def silent(**network: Any) -> Flow:
    """One whose network says 0: preconditioned, it is the exact flow from noise to independent values N(0, s^2)."""
    model = model_of(**network)
    model.network.leave.weight.zero_()
    return model


def normals(count: int, model: Flow, seed: int = 0) -> Tensor:
    dtype = next(model.parameters()).dtype
    return torch.randn(count, model.space.width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def levels(count: int, model: Flow, seed: int = 0) -> Tensor:
    shape = (count, *model.image_size, model.spec.channels)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
