import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genmodel.evaluation.figures.latent.matching import best_pairs, cluster_accuracy

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 5))


@settings(max_examples=150, deadline=None)
@given(SHAPES, st.integers(0, 2**31), st.integers(1, 60))
def test_no_other_pairs_gain_more(shape: tuple[int, int], seed: int, most: int) -> None:
    """Against all ways that there are."""
    gains = np.random.default_rng(seed).integers(0, most, shape)
    pairs = best_pairs(gains)
    assert len({row for row, _ in pairs}) == len({column for _, column in pairs}) == len(pairs) == min(shape)
    wide = gains if shape[0] <= shape[1] else gains.T
    ways = itertools.permutations(range(wide.shape[1]), len(wide))
    best = max(sum(int(wide[row, column]) for row, column in enumerate(way)) for way in ways)
    assert sum(int(gains[pair]) for pair in pairs) == best


def test_large_tables_agree_with_scipy() -> None:
    scipy = pytest.importorskip("scipy.optimize", reason="scipy is not installed")
    for seed, shape in enumerate([(10, 10), (100, 10), (10, 1000), (120, 120)]):
        gains = np.random.default_rng(seed).integers(0, 1000, shape)
        theirs = gains[scipy.linear_sum_assignment(gains, maximize=True)].sum()
        assert sum(int(gains[pair]) for pair in best_pairs(gains)) == theirs


def told(groups: list[list[int]], labels: list[int]) -> torch.Tensor:
    return torch.tensor([[*each, label] for each, label in zip(groups, labels, strict=True)])


def test_the_names_of_groups_do_not_matter() -> None:
    labels = [0, 0, 1, 1, 2, 2]
    assert cluster_accuracy(told([[7], [7], [0], [0], [3], [3]], labels)).value == 1
    assert cluster_accuracy(told([[7], [7], [0], [3], [3], [3]], labels)).value == pytest.approx(5 / 6)
    # two groups for one class: only one of them stands for it
    assert cluster_accuracy(told([[0], [1]] * 3, [0] * 6)).value == 0.5


def test_greedy_pairs_would_be_worse() -> None:
    groups, labels = [[0]] * 5 + [[0]] * 4 + [[1]] * 4, [0] * 5 + [1] * 4 + [0] * 4
    assert cluster_accuracy(told(groups, labels)).value == pytest.approx(8 / 13)  # greedy: 5


def test_of_several_ways_the_best_counts_and_a_class_never_seen_never_agrees() -> None:
    groups = [[0, 0], [0, 0], [0, 1], [0, 1]]
    assert cluster_accuracy(told(groups, [3, 3, 5, 5])).value == 1
    assert cluster_accuracy(told(groups, [3, 3, -1, -1])).value == 0.5
    assert cluster_accuracy(told(groups, [-1] * 4)).value == 0
