import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genmodel.evaluation.figures.manifold import Manifold, manifold
from genmodel.evaluation.figures.pairwise import between, within


def draw(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def judge(real: Tensor, fake: Tensor) -> Manifold:
    return manifold(between(real, within(real).neighbours, fake, within(fake).neighbours))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(st.integers(7, 80), st.integers(7, 80), st.integers(1, 8), st.integers(0, 2**31), st.floats(0, 2))
def test_it_agrees_with_the_authors_code(m: int, n: int, d: int, seed: int, shift: float) -> None:
    prdc = pytest.importorskip("prdc", reason="prdc is not installed")
    real, fake = draw(m, d, seed), draw(n, d, seed + 1, shift)
    theirs = [prdc.compute_prdc(real.double().numpy(), fake.double().numpy(), k) for k in (3, 5)]
    ours = judge(real, fake)
    assert ours.precision.value == pytest.approx(theirs[0]["precision"], rel=1e-6)
    assert ours.recall.value == pytest.approx(theirs[0]["recall"], rel=1e-6)
    assert ours.density.value == pytest.approx(theirs[1]["density"], rel=1e-6)
    assert ours.coverage.value == pytest.approx(theirs[1]["coverage"], rel=1e-6)


def test_identical_sets_are_wholly_precise_and_covered() -> None:
    found = judge(draw(100, 6, 1), draw(100, 6, 1))
    assert [figure.value for figure in (found.precision, found.recall, found.coverage)] == [1, 1, 1]


def test_far_sets_share_nothing() -> None:
    assert [figure.value for figure in judge(draw(100, 6, 1), draw(90, 6, 2, shift=100))] == [0, 0, 0, 0]


def test_order_and_size_of_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    real, fake = draw(200, 8, 1), draw(150, 8, 2, shift=0.5)
    expected = [figure.value for figure in judge(real, fake)]
    monkeypatch.setattr("genmodel.evaluation.figures.pairwise._CELLS", 2000)
    assert [figure.value for figure in judge(real.flip(0), fake.flip(0))] == pytest.approx(expected, rel=1e-9)


def test_what_is_no_number_gives_nan_not_an_error() -> None:
    broken = draw(50, 3, 1)
    broken[4, 1] = math.nan
    assert all(math.isnan(figure.value) for figure in judge(draw(50, 3, 2), broken))
