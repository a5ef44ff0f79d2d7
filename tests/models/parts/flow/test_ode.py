"""Solvers against an equation whose solution is known: their error falls as their order says."""

import math

import pytest
import torch
from torch import Tensor

from genmodel.models.parts.flow.ode import EVALUATIONS, Solver, integrate


def spiral(state: Tensor, time: float) -> Tensor:
    """dx/dt = (1 + t) A x: x(t) = exp((t + t^2 / 2) A) x(0), with A a rotation that shrinks."""
    matrix = torch.tensor([[-0.3, -2.0], [2.0, -0.3]], dtype=torch.float64)
    return (1 + time) * state @ matrix.T


def solution(state: Tensor, time: float) -> Tensor:
    passed = time + time**2 / 2
    turn, shrunk = 2 * passed, math.exp(-0.3 * passed)
    cos, sin = math.cos(turn), math.sin(turn)
    return shrunk * state @ torch.tensor([[cos, sin], [-sin, cos]], dtype=torch.float64)


START = torch.tensor([[1.0, 0.0], [0.5, -2.0]], dtype=torch.float64)


def error(solver: Solver, steps: int, backward: bool) -> float:
    times = [step / steps for step in range(steps + 1)]
    begin, end = START, solution(START, 1.0)
    if backward:
        times, begin, end = times[::-1], end, begin
    return float((integrate(spiral, begin, times, solver) - end).norm())


@pytest.mark.parametrize("backward", [False, True])
@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_the_error_falls_with_the_order_of_the_solver(solver: Solver, order: int, backward: bool) -> None:
    ratios = [error(solver, steps, backward) / error(solver, 2 * steps, backward) for steps in (64, 128, 256)]
    assert ratios == pytest.approx([2**order] * 3, rel=0.1)


@pytest.mark.parametrize("solver", EVALUATIONS)
def test_each_step_asks_the_field_as_often_as_is_said_and_steps_may_differ(solver: Solver) -> None:
    asked: list[float] = []

    def field(state: Tensor, time: float) -> Tensor:
        asked.append(time)
        return spiral(state, time)

    times = [0.0, 0.1, 0.4, 1.0]
    integrate(field, START, times, solver)
    assert len(asked) == EVALUATIONS[solver] * 3
    assert asked[:: EVALUATIONS[solver]] == times[:-1]
    if solver == "heun":
        assert asked[1::2] == times[1:]
    if solver == "midpoint":
        assert asked[1::2] == pytest.approx([0.05, 0.25, 0.7])
