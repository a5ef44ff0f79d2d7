"""Neighbours and kernels are those of the full matrix, however it is cut into pieces."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genmodel.evaluation.figures.pairwise import between, nearest, to_nearest, within


def draw(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.fixture(params=[(1000, 64), (1000, 8), (1 << 19, 8), (1 << 19, 1)], ids=str)
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rows at once, few columns in a group, or both."""
    cells, group = request.param
    monkeypatch.setattr("genmodel.evaluation.figures.pairwise._CELLS", cells)
    monkeypatch.setattr("genmodel.evaluation.figures.pairwise._GROUP", group)


@pytest.mark.usefixtures("pieces")
def test_neighbours_and_nearest_are_those_of_a_full_matrix() -> None:
    a, b = draw(90, 5, 1), draw(60, 5, 2)
    full = torch.cdist(a.double(), b.double()).numpy()
    squares, rows = nearest(a, b, 3)
    np.testing.assert_array_equal(rows, np.argsort(full, axis=1)[:, :3])
    np.testing.assert_allclose(squares.sqrt(), np.sort(full, axis=1)[:, :3], rtol=1e-9)
    np.testing.assert_allclose(to_nearest(a, b).sqrt(), full.min(axis=1), rtol=1e-9)
    own = torch.cdist(a.double(), a.double()).numpy()
    np.testing.assert_allclose(within(a).neighbours.sqrt(), np.sort(own, axis=1)[:, 1:6], rtol=1e-9)
    across = between(a, within(a).neighbours, b, within(b).neighbours)
    np.testing.assert_allclose(across.nearest.sqrt(), full.min(axis=0), rtol=1e-9)


@pytest.mark.usefixtures("pieces")
def test_kernels_are_those_of_products() -> None:
    """Far from 0, too, where the distances are small beside the products."""
    a, b = draw(90, 5, 1, shift=30), draw(60, 5, 2, shift=30)

    def kernel(xs: Tensor, ys: Tensor) -> np.ndarray:
        return (xs.double().numpy() @ ys.double().numpy().T / 5 + 1) ** 3

    own = kernel(a, a)
    expected = (own.sum(axis=1) - own.diagonal()) / 89
    np.testing.assert_allclose(within(a).kernel, expected, rtol=1e-12)
    across = between(a, within(a).neighbours, b, within(b).neighbours)
    np.testing.assert_allclose(across.kernel, kernel(a, b).mean(axis=0), rtol=1e-12)


@pytest.mark.usefixtures("pieces")
def test_what_lies_as_near_as_the_reach_lies_outside() -> None:
    """A ball holds what is strictly nearer: copies of one point are in no ball of radius 0."""
    same, spread = torch.zeros(60, 3), draw(60, 3, 1)
    across = between(same, within(same).neighbours, same, within(same).neighbours)
    assert not (across.precise.any() or across.recalled.any() or across.covered.any() or across.balls.any())
    across = between(spread, within(spread).neighbours, spread, within(spread).neighbours)
    assert across.precise.all() and across.recalled.all() and across.covered.all()


@pytest.mark.usefixtures("pieces")
def test_equal_distances_are_all_kept() -> None:
    """Of neighbours equally far away, in one group of columns or in several, none is lost and none counts twice."""
    line = torch.arange(60.0)[:, None]
    expected = [[1, 1, 4, 4, 9], [1, 1, 4, 4, 9]]
    assert within(line).neighbours[30:32].tolist() == expected
    assert within(line.repeat(2, 1)).neighbours[30].tolist() == [0, 1, 1, 1, 1]


def test_what_is_no_number_gives_nan_not_an_error() -> None:
    broken, whole = draw(50, 3, 1), draw(50, 3, 2)
    broken[4, 1] = math.nan
    assert within(broken).kernel.isnan().all() and within(broken).neighbours.isnan().any()
    assert between(broken, within(broken).neighbours, whole, within(whole).neighbours).kernel.isnan().all()
