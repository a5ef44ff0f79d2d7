import math

import pytest
import torch

from genmodel.evaluation.figures.bootstrap import intervals
from genmodel.evaluation.figures.latent.walks import detour, jump, measure


def test_known_ways() -> None:
    """Straight and even; a half circle in many steps; all at once."""
    line = torch.linspace(0, 1, 16)[:, None] * torch.tensor([3.0, 4.0])
    angles = torch.linspace(0, math.pi, 16)
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    sudden = torch.where(torch.arange(16)[:, None] < 7, torch.zeros(2), torch.tensor([0.0, 2.0]))
    ways = measure(torch.stack([line, circle, sudden]))
    assert ways[0].tolist() == pytest.approx([5, 5, 1 / 3], rel=1e-6)
    assert ways[1].tolist() == pytest.approx([30 * math.sin(math.pi / 30), 2, 2 * math.sin(math.pi / 30)], rel=1e-5)
    assert ways[2].tolist() == pytest.approx([2, 2, 2])
    assert [detour(way[None]).value for way in ways] == pytest.approx([1, 15 * math.sin(math.pi / 30), 1], rel=1e-5)
    assert [jump(way[None]).value for way in ways] == pytest.approx([1 / 15, 1 / 15, 1], rel=1e-5)


def test_a_walk_whose_ends_look_alike_does_not_decide() -> None:
    ways = torch.tensor([[2.0, 1.0, 0.2]] * 99 + [[2.0, 1e-9, 0.2]]).double()
    assert detour(ways).value == pytest.approx(2, rel=0.02)


def test_the_interval_holds_what_other_walks_give() -> None:
    """The spread by influences is that of the ratio over many draws of the same walks."""
    rng = torch.Generator().manual_seed(0)
    draws = torch.rand(2000, 64, 3, generator=rng, dtype=torch.float64) + torch.tensor([2.0, 1.0, 0.2])
    values = torch.tensor([detour(ways).value for ways in draws])
    low, high = intervals({"walk": detour(draws[0])}, seed=0)["walk"]
    assert (high - low) / 3.92 == pytest.approx(float(values.std()), rel=0.3)


def test_what_is_not_a_number_is_told_as_such() -> None:
    features = torch.rand(4, 16, 8)
    features[2, 5, 0] = math.nan
    ways = measure(features)
    for estimate in (detour(ways), jump(ways), detour(measure(torch.ones(4, 16, 8)))):
        assert math.isnan(estimate.value)
        assert all(map(math.isnan, intervals({"walk": estimate}, 0)["walk"]))
