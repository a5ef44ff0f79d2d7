"""The optimisers that players declare: built, given their current values, and stepped under a guard.

The guard: an update whose loss or gradient is not finite changes nothing, neither weights nor moments, for any
optimiser. torch's fused Adam checks `found_inf` itself; for any other, weights and state are saved, and restored if the
update was not finite. Nothing waits for the device.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genmodel import adam
from genmodel.models.contract import Adam, Player
from genmodel.settings.schedule import Schedule, Scheduled, value_at


class GuardedOptimizer:
    """A player's optimiser. Its learning rate and betas follow their schedules: see `values` and `take`."""

    def __init__(self, player: Player, device: torch.device) -> None:
        declared = player.optimizer
        self.parameters = player.parameters()
        self.settings: tuple[Scheduled, ...] = (declared.lr, *declared.betas)
        lr, beta1, beta2 = self.values(0, 1.0)
        options: dict[str, Any] = {"lr": lr, "betas": (beta1, beta2), "eps": declared.eps}
        if device.type == "cuda":
            options["capturable"] = True
        self.fused = isinstance(declared, Adam)
        if self.fused:
            self.torch: torch.optim.Optimizer = adam.Adam(self.parameters, fused=True, **options)
        else:
            self.torch = adam.Adamax(self.parameters, **options)
        # torch takes betas as numbers: a captured step would not see them change
        self.can_be_captured = not any(isinstance(beta, Schedule) for beta in declared.betas)
        self._rate: Tensor | None = None

    def values(self, images_seen: int, share: float) -> tuple[float, float, float]:
        """The learning rate, times `share`, and the betas after `images_seen` images."""
        lr, beta1, beta2 = (float(value_at(setting, images_seen)) for setting in self.settings)
        return share * lr, beta1, beta2

    def take(self, values: Sequence[float]) -> None:
        """Use these `values` from the next step on."""
        (group,) = self.torch.param_groups
        group["betas"] = (values[1], values[2])
        if self._rate is None:
            group["lr"] = values[0]

    def take_rate_from(self, place: Tensor) -> None:
        """Read the learning rate from a scalar on the device at each step, so that a captured one sees it change."""
        (group,) = self.torch.param_groups
        group["lr"] = self._rate = place

    def step(self, sound: Tensor) -> None:
        """A step with the current gradients; it changes nothing if `sound`, bool [], is false."""
        if self.fused:
            self.torch.found_inf = (~sound).float()  # type: ignore[attr-defined]
            self.torch.step()
            return
        if not self.torch.state:
            _begin_state(self.torch)
        held = [*self.parameters, *(value for fields in self.torch.state.values() for value in fields.values())]
        before = [value.detach().clone() for value in held]
        self.torch.step()
        with torch.no_grad():
            for value, old in zip(held, before, strict=True):
                value.copy_(torch.where(sound, value, old))

    def flat_state(self) -> dict[str, Tensor]:
        """The optimiser's state as tensors named "<parameter index>.<field>"; its settings come from the family."""
        state = self.torch.state_dict()["state"]
        return {f"{index}.{field}": value for index, fields in state.items() for field, value in fields.items()}

    def load(self, flat: dict[str, Tensor]) -> None:
        """Restore what flat_state gave; before the first step there is no state.

        Moments get their weight's memory layout: a fused step reads both side by side, and a checkpoint is contiguous
        where the weights are channels_last.
        """
        self.torch.state.clear()
        for name, value in flat.items():
            index, field = name.split(".", 1)
            weight = self.parameters[int(index)]
            like = weight if value.shape == weight.shape else value
            place = torch.empty_like(like, dtype=value.dtype, device=weight.device)
            self.torch.state[weight][field] = place.copy_(value)


def _begin_state(optimizer: torch.optim.Optimizer) -> None:
    """Make an optimiser's state as its first step would, so that even that step can be undone."""
    weights: list[nn.Parameter] = [weight for group in optimizer.param_groups for weight in group["params"]]
    kept = [(weight, weight.grad, weight.detach().clone()) for weight in weights]
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    with torch.no_grad():
        for weight, gradient, value in kept:
            weight.copy_(value)
            weight.grad = gradient
            for field in optimizer.state[weight].values():
                field.zero_()
