"""Intervals hold what they promise: against numpy's plain bootstrap, and by how often they hold the truth."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate, intervals, mean
from genmodel.evaluation.figures.distances import frechet_distance, kernel_distance
from genmodel.evaluation.figures.inception_score import inception_score
from genmodel.evaluation.figures.pairwise import between, within


def test_of_a_mean_it_is_the_percentiles_of_resampled_means() -> None:
    values = torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64).exp()
    rng = np.random.default_rng(0)
    means = [rng.choice(values.numpy(), 400).mean() for _ in range(4000)]
    expected = np.quantile(means, [0.025, 0.975])
    width = expected[1] - expected[0]
    np.testing.assert_allclose(intervals({"m": mean(values)}, seed=0)["m"], expected, atol=0.06 * width)


def test_a_share_s_interval_holds_no_value_that_a_share_cannot_have() -> None:
    values = (torch.arange(200) < 1).double()  # a remainder of rounding went below 0: -3.469e-18
    for share in (values, 1 - values):
        low, high = intervals({"m": mean(share)}, seed=0)["m"]
        assert 0 <= low <= high <= 1


def test_an_end_at_zero_is_zero() -> None:
    rare = (torch.arange(200) < 3).double()  # rounding left 6.939e-18
    assert intervals({"m": mean(rare)}, seed=0)["m"][0] == 0


ROOT = torch.eye(4, dtype=torch.float64)
REAL = torch.randn(300, 4, generator=torch.Generator().manual_seed(9))


def frechet(samples: Tensor) -> Estimate:
    return frechet_distance(torch.zeros(4, dtype=torch.float64), ROOT, samples)


def kernel(samples: Tensor) -> Estimate:
    real, own = within(REAL), within(samples)
    across = between(REAL, real.neighbours, samples, own.neighbours)
    return kernel_distance(float(real.kernel.mean()), across.kernel, own.kernel)


@pytest.mark.slow
@pytest.mark.parametrize("figure", [frechet, kernel, inception_score])
def test_intervals_hold_the_truth_nineteen_times_in_twenty(figure: Callable[[Tensor], Estimate]) -> None:
    """The truth is the mean of the figure over many draws of N samples."""
    rng = torch.Generator().manual_seed(2)
    drawn = [figure(torch.randn(300, 4, generator=rng) * 1.5 + 0.7) for _ in range(300)]
    truth = float(np.mean([estimate.value for estimate in drawn]))
    held = [low <= truth <= high for low, high in (intervals({"f": estimate}, 0)["f"] for estimate in drawn[:200])]
    assert 0.9 <= np.mean(held) <= 0.99


def test_they_depend_on_the_seed_alone_and_nothing_else_beside() -> None:
    values = torch.randn(100, generator=torch.Generator().manual_seed(1))
    one = {"a": mean(values)}
    assert intervals(one, 3) == intervals(one, 3) != intervals(one, 4)
    more = intervals({"b": mean(values[:50]), **one, "c": mean(values * 2)}, 3)
    assert list(more) == ["b", "a", "c"] and more["a"] == pytest.approx(intervals(one, 3)["a"], rel=1e-12)


def test_they_end_at_the_bounds_of_a_figure() -> None:
    plain = Estimate(0.1, torch.tensor([-9.0, 9.0]).double().repeat(10))
    low, high = intervals({"f": plain}, 0)["f"]
    assert low < 0 and high > 1
    assert intervals({"f": plain._replace(low=0, high=1)}, 0)["f"] == (0, 1)


def test_what_is_no_number_has_no_interval() -> None:
    found = intervals({"a": Estimate(math.nan, torch.zeros(5).double()), "b": mean(torch.tensor([1, math.nan]))}, 0)
    assert all(math.isnan(end) for ends in found.values() for end in ends)
