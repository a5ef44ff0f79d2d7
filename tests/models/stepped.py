"""Toy families and their steps."""

from functools import partial

import torch

from genmodel.models.contract import Adam, Batch, Family, Noise, Step, build_model
from genmodel.params import run_config
from genmodel.settings.schedule import value_at
from tests.small import network_of

SMALL = {"base_channels": 4, "latent_dim": 6, "blocks": 1, "halvings": 0, "steps": 2}


def toy(family: str, image_size: int = 8) -> Family:
    network = network_of(family, **SMALL)
    return build_model(run_config({"family": family, "image_size": image_size, "network": network}, "toy"), 0)


def images(n: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator).float() / 127.5 - 1


def optimizers(model: Family) -> dict[str, torch.optim.Optimizer]:
    made = {}
    for player in model.players():
        declared = player.optimizer
        kind = partial(torch.optim.Adam, fused=True) if isinstance(declared, Adam) else torch.optim.Adamax
        made[player.name] = kind(
            player.parameters(),
            value_at(declared.lr, 0),
            tuple(value_at(beta, 0) for beta in declared.betas),  # type: ignore[arg-type]
            declared.eps,
        )
    return made


def step(
    model: Family,
    real: torch.Tensor,
    rng: torch.Generator,
    moved_by: dict[str, torch.optim.Optimizer] | None = None,
) -> dict[str, torch.Tensor]:
    """A training step, as plain as it can be; `moved_by` where optimisers go on from step to step."""
    metrics: dict[str, torch.Tensor] = {}
    moved_by, players = moved_by or optimizers(model), {player.name: player for player in model.players()}
    labels, shared = torch.full((len(real),), -1), {}  # type: ignore[var-annotated]
    knobs = {name: torch.tensor(value_at(setting, 0)) for name, setting in model.knobs().items()}
    for update in model.updates():
        optimizer = moved_by[update.player]
        optimizer.zero_grad()
        loss, measured = update.loss(Step(Batch(real.clone(), labels), Noise(rng), knobs, shared))
        loss.backward(inputs=players[update.player].parameters())
        optimizer.step()
        metrics |= measured
    return metrics


def noise(model: Family, n: int) -> torch.Tensor:
    return Noise(torch.Generator().manual_seed(0)).of(model.space, n)
