"""The order of training: every epoch a permutation, any place at once, no two alike."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmodel.data.reading.order import flips, labelled_places, order


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 5000), st.integers(0, 2**31 - 1), st.integers(0, 10**6))
def test_every_epoch_is_a_permutation(count: int, seed: int, epoch: int) -> None:
    seen = order(np.arange(epoch * count, (epoch + 1) * count), count, seed)
    np.testing.assert_array_equal(np.sort(seen), np.arange(count))


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.integers(0, 99), st.lists(st.integers(0, 2000), min_size=1, max_size=50))
def test_a_place_does_not_depend_on_what_is_asked_with_it(count: int, seed: int, positions: list[int]) -> None:
    whole = order(np.arange(2001), count, seed)
    np.testing.assert_array_equal(order(np.array(positions), count, seed), whole[positions])


def test_epochs_and_seeds_differ() -> None:
    one, two = order(np.arange(2000), 1000, 0).reshape(2, 1000)
    other = order(np.arange(1000), 1000, 1)
    for a, b in ((one, two), (one, other), (one, np.arange(1000))):
        assert np.mean(a == b) < 0.01


def test_all_orders_are_about_as_likely() -> None:
    orders = order(np.arange(4 * 12_000), 4, 3).reshape(-1, 4)
    counts = Counter(map(tuple, orders.tolist()))
    assert len(counts) == 24
    assert sum((n - 500) ** 2 / 500 for n in counts.values()) < 50  # chi squared, 23 degrees: p = 0.001


def test_neighbours_are_far_apart() -> None:
    seen = order(np.arange(100_000), 100_000, 0)
    assert abs(np.abs(np.diff(seen)).mean() / 100_000 - 1 / 3) < 0.01
    assert abs(np.corrcoef(seen, np.arange(100_000))[0, 1]) < 0.02


def test_half_are_flipped_independently_of_the_epoch() -> None:
    coins = flips(np.arange(100_000), 5)
    assert abs(coins.mean() - 0.5) < 0.01
    assert abs(np.mean(coins[:50_000] == coins[50_000:]) - 0.5) < 0.01
    assert abs(np.mean(coins == flips(np.arange(100_000), 6)) - 0.5) < 0.01


def test_the_order_never_changes() -> None:
    """Golden: another order would break every resume and every comparison with older runs."""
    assert order(np.arange(7, 17), 10, 42).tolist() == [8, 1, 6, 5, 1, 0, 6, 4, 3, 8]
    assert order(np.array([0, 1, 2, 10**12]), 1_281_167, 0).tolist() == [183915, 157166, 531351, 962457]
    assert flips(np.arange(12), 42).astype(int).tolist() == [1, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_tiny(count: int) -> None:
    assert set(order(np.arange(count), count, 0).tolist()) == set(range(count))


LABELS = st.lists(st.integers(0, 6), min_size=1, max_size=300).map(lambda labels: np.array(labels, np.int64))


@settings(max_examples=100, deadline=None)
@given(LABELS, st.integers(1, 60), st.integers(0, 2**31 - 1))
def test_as_many_of_each_class_keep_their_label_as_are_asked_for(labels: np.ndarray, count: int, seed: int) -> None:
    kept = labelled_places(labels, count, seed)
    assert kept.dtype == bool and kept.shape == labels.shape
    for label in range(7):
        assert kept[labels == label].sum() == min(count, (labels == label).sum())
    np.testing.assert_array_equal(kept, labelled_places(labels, count, seed))


@settings(max_examples=50, deadline=None)
@given(LABELS, st.integers(1, 20), st.integers(0, 99))
def test_more_labels_are_the_same_ones_and_some_more(labels: np.ndarray, count: int, seed: int) -> None:
    few, more = (labelled_places(labels, each, seed) for each in (count, count + 3))
    assert not (few & ~more).any()


def test_the_seed_alone_chooses_who_keeps_a_label_each_as_likely() -> None:
    labels = np.arange(1000) % 4
    often = sum(labelled_places(labels, 50, seed).astype(int) for seed in range(400))
    assert abs(often.mean() - 80) < 1e-9  # 50 of 250 in 400 draws
    assert abs(often.std() - 8) < 1.5  # of 400 independent draws with p = 1 / 5
    assert abs(np.corrcoef(labelled_places(labels, 50, 0), labelled_places(labels, 50, 1))[0, 1]) < 0.15


def test_the_labelled_never_change() -> None:
    """Golden: others would make a training that goes on see labels that were withheld from it."""
    assert np.flatnonzero(labelled_places(np.arange(20) % 2, 3, 42)).tolist() == [2, 3, 4, 9, 12, 19]
