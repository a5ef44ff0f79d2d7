"""Noise by its declaration: the same for an image whatever else is drawn, and of the distributions that are named."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genmodel.models.noise import Space, categorical, draw_labels, image_seeds, normal, uniform

SEEDS = st.integers(0, 2**64 - 1)
SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=3)
PARTS = st.one_of(
    SHAPES.map(lambda shape: normal(*shape)),
    SHAPES.map(lambda shape: uniform(*shape)),
    st.builds(lambda classes, shape: categorical(classes, *shape), st.integers(1, 300), SHAPES),
)
SPACES = st.builds(Space, st.lists(PARTS, min_size=1, max_size=4).map(tuple), st.booleans())


@given(SPACES, SEEDS, st.integers(1, 20), st.integers(0, 20), st.integers(0, 2**40))
def test_an_image_has_the_same_noise_in_any_request(space: Space, seed: int, n: int, more: int, first: int) -> None:
    few = space.draw(image_seeds(seed, n))
    many = space.draw(image_seeds(seed, n + more))
    assert few.dtype == np.float32 and few.shape == (n, space.width)
    assert np.array_equal(many[:n], few)
    assert np.array_equal(image_seeds(seed, n + 3, first)[3:], image_seeds(seed, n, first + 3))
    order = np.random.default_rng(0).permutation(n)
    assert np.array_equal(space.draw(image_seeds(seed, n)[order]), few[order])


@given(SPACES, SEEDS)
def test_a_part_keeps_its_numbers_when_one_is_put_behind_it(space: Space, seed: int) -> None:
    longer = Space((*space.parts, normal(2)))
    seeds = image_seeds(seed, 5)
    assert np.array_equal(longer.draw(seeds)[:, : space.width], space.draw(seeds))


@given(SPACES, SEEDS)
def test_all_numbers_lie_where_they_are_said_to_lie(space: Space, seed: int) -> None:
    for part, numbers in zip(space.parts, space.split(space.draw(image_seeds(seed, 64))), strict=True):
        assert numbers.shape == (64, *part.shape) and np.isfinite(numbers).all()
        if part.kind == "uniform":
            assert (numbers >= -1).all() and (numbers < 1).all()
        if part.kind == "categorical":
            assert (numbers == np.floor(numbers)).all() and (numbers >= 0).all() and (numbers < part.classes).all()


@pytest.mark.parametrize("bits", [0, 1, 2**32 - 1, 2**32, 2**40 - 1, 2**63, 2**64 - 1])
def test_the_ends_of_the_ranges_are_kept_by_any_bits(bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "genmodel.models.noise._mix", lambda value, key: np.full(np.broadcast(value, key).shape, bits, "u8")
    )
    space = Space((normal(1), uniform(1), categorical(10), categorical(2**20)))
    n, u, few, many = space.draw(np.zeros(1, np.uint64))[0]
    assert math.isfinite(n) and abs(n) < 7 and -1 <= u < 1 and few in range(10) and many in range(2**20)
    assert draw_labels(np.zeros(1, np.uint64), [0, 2, 5, 0])[0] in (1, 2), "never a class of no images"


@given(SPACES, SEEDS, st.integers(1, 8))
def test_split_gives_the_parts_of_numpy_and_of_torch(space: Space, seed: int, n: int) -> None:
    drawn = space.draw(image_seeds(seed, n))
    parts = space.split(drawn)
    assert [part.shape for part in parts] == [(n, *part.shape) for part in space.parts]
    assert np.array_equal(np.concatenate([part.reshape(n, -1) for part in parts], axis=1), drawn)
    for part, same in zip(parts, space.split(torch.from_numpy(drawn)), strict=True):
        assert np.array_equal(part, same.numpy())


@given(SPACES)
def test_a_space_survives_json(space: Space) -> None:
    assert Space.from_dict(json.loads(json.dumps(space.as_dict()))) == space


@pytest.mark.parametrize(
    "rubbish",
    [
        {},
        {"parts": "normal", "meaningful": True},
        {"parts": [{"kind": "normal", "shape": [2], "classes": 0}]},
        {"parts": [{"kind": "cauchy", "shape": [2], "classes": 0}], "meaningful": True},
        {"parts": [{"kind": "normal", "shape": 2, "classes": 0}], "meaningful": True},
        {"parts": [{"kind": "normal", "shape": [0], "classes": 0}], "meaningful": True},
        {"parts": [{"kind": "normal", "shape": [-2, -2], "classes": 0}], "meaningful": True},
        {"parts": [{"kind": "categorical", "shape": [1], "classes": 0}], "meaningful": True},
        {"parts": [{"kind": "normal", "shape": [2], "classes": 3}], "meaningful": True},
        {"parts": [{"kind": "normal", "shape": [2]}], "meaningful": True},
        {"parts": [None], "meaningful": True},
    ],
)
def test_what_is_no_space_is_refused(rubbish: dict[str, Any]) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        Space.from_dict(rubbish)


@given(SEEDS, SEEDS)
def test_other_seeds_draw_other_numbers(one: int, other: int) -> None:
    space = Space((normal(4),))
    seeds = np.concatenate([image_seeds(one, 50), image_seeds(other, 50)])
    assert len(np.unique(seeds)) == (50 if one == other else 100)
    assert len(np.unique(space.draw(seeds), axis=0)) == (50 if one == other else 100)


def test_neighbouring_seeds_share_no_image() -> None:
    """Requests are numbered 0, 1, 2, ... by people: image i of one must not be image j of another."""
    seeds = np.concatenate([image_seeds(seed, 500) for seed in range(200)])
    assert len(np.unique(seeds)) == len(seeds)


N = 200_000


def columns(space: Space) -> np.ndarray:
    return space.draw(image_seeds(7, N)).astype(np.float64)


def test_normal_numbers_have_the_moments_of_n_0_1() -> None:
    drawn = columns(Space((normal(3),)))
    for power, expected, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):  # the variance of a power
        assert np.abs((drawn**power).mean(axis=0) - expected).max() < 5 * math.sqrt(spread / N)
    tail = math.erfc(2 / math.sqrt(2))
    assert np.abs((np.abs(drawn) > 2).mean(axis=0) - tail).max() < 5 * math.sqrt(tail / N)
    _uncorrelated(drawn)


def test_uniform_numbers_are_spread_evenly() -> None:
    drawn = columns(Space((uniform(3),)))
    for column in drawn.T:
        counts, _ = np.histogram(column, bins=64, range=(-1, 1))
        assert ((counts - N / 64) ** 2 / (N / 64)).sum() < 63 + 5 * math.sqrt(2 * 63)
    _uncorrelated(drawn * math.sqrt(3))


def test_each_choice_is_as_likely() -> None:
    drawn = columns(Space((categorical(7, 2),)))
    for column in drawn.T:
        counts = np.bincount(column.astype(int), minlength=7)
        assert ((counts - N / 7) ** 2 / (N / 7)).sum() < 6 + 5 * math.sqrt(2 * 6)
    _uncorrelated((drawn - 3) / 2)


def _uncorrelated(drawn: np.ndarray) -> None:
    """Columns of unit variance: not with each other, nor an image with the next."""
    across = drawn.T @ drawn / N - np.eye(drawn.shape[1])
    along = (drawn[1:] * drawn[:-1]).mean(axis=0)
    assert max(np.abs(across - np.diag(np.diag(across))).max(), np.abs(along).max()) < 5 / math.sqrt(N)


@pytest.mark.slow
@given(SEEDS, st.lists(st.integers(0, 50), min_size=1, max_size=12).filter(any))
def test_a_class_comes_as_often_as_its_share(seed: int, shares: list[int]) -> None:
    seeds = image_seeds(seed, 2_000)
    labels = draw_labels(seeds, shares)
    assert labels.dtype == np.int64 and np.array_equal(draw_labels(seeds[:7], shares), labels[:7])
    seen, expected = np.bincount(labels, minlength=len(shares)) / 2_000, np.array(shares) / sum(shares)
    assert len(seen) == len(shares) and (seen[expected == 0] == 0).all()
    assert np.abs(seen - expected).max() < 6 * math.sqrt(0.25 / 2_000)


def test_the_class_is_drawn_apart_from_the_noise() -> None:
    """Or all images of a class would have noise of one corner."""
    seeds = image_seeds(3, N)
    labels = draw_labels(seeds, [1, 1]) * 2.0 - 1
    noise = Space((uniform(2),)).draw(seeds)
    assert np.abs((labels[:, None] * noise).mean(axis=0)).max() < 5 / math.sqrt(3 * N)


def test_these_numbers_stay_as_they_are() -> None:
    """Whoever wrote a seed down finds the image again; each package carries the code, and judges beside today's."""
    space = Space((normal(1), uniform(1), categorical(10)))
    drawn = [[-0.17219582, 0.48723114, 5], [1.4405661, 0.18279207, 7]]
    np.testing.assert_allclose(space.draw(image_seeds(3, 2)), drawn, rtol=1e-6)
    assert draw_labels(image_seeds(3, 8), [1, 2, 3]).tolist() == [2, 1, 0, 1, 2, 1, 1, 1]
