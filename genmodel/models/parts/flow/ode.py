"""Solvers of ordinary differential equations dx/dt = field(x, t) along given times, as plain steps that a graph can
hold."""

import itertools
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

Solver = Literal["euler", "midpoint", "heun"]
Field = Callable[[Tensor, float], Tensor]

EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2}  # of the field, in one step


def integrate(field: Field, state: Tensor, times: Sequence[float], solver: Solver) -> Tensor:
    """The state at times[-1] of what is `state` at times[0]; times may also fall.

    The error falls with the step for "euler", with its square for "midpoint" and "heun" (the explicit trapezoidal
    rule), which ask for the field twice in each step.
    """
    for now, after in itertools.pairwise(times):
        width, slope = after - now, field(state, now)
        if solver == "midpoint":
            slope = field(state + 0.5 * width * slope, now + 0.5 * width)
        elif solver == "heun":
            slope = 0.5 * (slope + field(state + width * slope, after))
        state = state + width * slope
    return state
