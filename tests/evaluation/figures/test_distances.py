import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm
from torch import Tensor

from genmodel.evaluation.figures.bootstrap import Estimate
from genmodel.evaluation.figures.distances import (
    _shuffled,
    frechet_at_infinity,
    frechet_distance,
    kernel_distance,
    moments,
    square_root,
)
from genmodel.evaluation.figures.inception_score import inception_score
from genmodel.evaluation.figures.pairwise import between, within


def draw(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=rng) @ torch.randn(d, d, generator=rng) * scale + shift


def frechet(a: Tensor, b: Tensor) -> Estimate:
    mean, covariance = moments(a)
    return frechet_distance(mean, square_root(covariance), b)


def at_infinity(a: Tensor, b: Tensor) -> Estimate:
    mean, covariance = moments(a)
    return frechet_at_infinity(mean, square_root(covariance), b, frechet(a, b))


def kernel(a: Tensor, b: Tensor) -> Estimate:
    real, own = within(a), within(b)
    across = between(a, real.neighbours, b, own.neighbours)
    return kernel_distance(float(real.kernel.mean()), across.kernel, own.kernel)


sets = st.tuples(st.integers(7, 60), st.integers(7, 60), st.integers(1, 12), st.integers(0, 2**31), st.floats(0.01, 10))


def test_moments_are_numpys() -> None:
    features = draw(50, 7, seed=1, shift=100)
    mean, covariance = moments(features)
    assert mean.dtype == covariance.dtype == torch.float64
    np.testing.assert_allclose(mean, features.double().numpy().mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(features.double().numpy(), rowvar=False), rtol=1e-10)


@settings(max_examples=30, deadline=None)
@given(sets)
def test_frechet_distance_of_a_set_to_itself_is_zero_even_where_its_covariance_is_singular(numbers: tuple) -> None:
    n, _, d, seed, scale = numbers
    own = draw(n, d, seed, scale)
    assert frechet(own, own).value <= 1e-9 * max(1.0, float(moments(own).covariance.trace()))


def test_frechet_distance_agrees_with_scipys_matrix_root() -> None:
    first, second = draw(300, 16, seed=1), draw(200, 16, seed=2, scale=1.5, shift=0.3)
    a, b = moments(first), moments(second)
    root = sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    expected = ((a.mean - b.mean) ** 2).sum() + (a.covariance + b.covariance).trace() - 2 * np.trace(root.real)
    assert frechet(first, second).value == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("sizes", [(300, 200), (1500, 1300)])
def test_frechet_distance_agrees_with_torch_fidelity(sizes: tuple[int, int]) -> None:
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid", reason="torch-fidelity is not installed")
    a, b = draw(sizes[0], 16, seed=1).double(), draw(sizes[1], 16, seed=2, scale=1.5, shift=0.3).double()
    theirs = metric_fid.fid_statistics_to_metric(
        metric_fid.fid_features_to_statistics(a), metric_fid.fid_features_to_statistics(b), verbose=False
    )["frechet_inception_distance"]
    assert frechet(a, b).value == pytest.approx(theirs, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 2, *[st.floats(0, 4)] * 2), min_size=1, max_size=6))
def test_frechet_distance_of_axis_aligned_gaussians_is_the_closed_form(axes: list) -> None:
    """With diagonal covariances it is the squared distance of means and of standard deviations."""
    means_a, means_b, deviations_a, deviations_b = torch.tensor(axes, dtype=torch.float64).T
    steps = deviations_b.diag() * math.sqrt((2 * len(axes) - 1) / 2)
    b = means_b + torch.cat([steps, -steps])  # two points an axis, with exactly these moments
    expected = (means_a - means_b).square().sum() + (deviations_a - deviations_b).square().sum()
    assert frechet_distance(means_a, deviations_a.diag(), b).value == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("n", [400, 10])
def test_an_influence_is_the_change_by_one_more_of_a_sample(n: int) -> None:
    """By a small difference of weights, with fewer samples than dimensions too."""
    a, b = draw(300, 12, seed=1), draw(n, 12, seed=2, shift=0.5)
    times = 4000 // n
    for row in (0, n // 2):
        heavier = torch.cat([b.repeat(times, 1), b[row : row + 1]])
        plain = frechet(a, b.repeat(times, 1)).value
        change = (frechet(a, heavier).value - plain) * len(heavier)
        influence = frechet(a, b.repeat(times, 1)).influence
        assert change == pytest.approx(float(influence[row]), abs=0.02 * float(influence.std()))


def test_the_extrapolation_takes_away_the_bias_of_few_samples() -> None:
    """Of two equal Gaussians the distance at N samples is far above 0, and its extrapolation near it."""
    d, rng = 20, torch.Generator().manual_seed(0)
    mean, root = torch.zeros(d, dtype=torch.float64), torch.eye(d, dtype=torch.float64)
    plain, infinite = [], []
    for _ in range(20):
        samples = torch.randn(600, d, generator=rng)
        whole = frechet_distance(mean, root, samples)
        plain.append(whole.value)
        infinite.append(frechet_at_infinity(mean, root, samples, whole).value)
    assert np.mean(plain) > 0.15
    assert abs(np.mean(infinite)) < 0.1 * np.mean(plain)


def test_the_extrapolation_is_the_intercept_of_a_line() -> None:
    a, b = draw(200, 4, seed=1), draw(300, 4, seed=2)
    rows = _shuffled(b)
    values = [np.mean([frechet(a, b[rows[part::k]]).value for part in range(k)]) for k in (1, 2, 3)]
    slope, intercept = np.polyfit([1 / 300, 2 / 300, 3 / 300], values, 1)
    assert slope > 0 and at_infinity(a, b).value == pytest.approx(intercept, rel=1e-9)


def test_kernel_distance_agrees_with_a_double_loop() -> None:
    a, b = draw(8, 3, seed=1).double(), draw(7, 3, seed=2).double()

    def mean_pairs(xs: Tensor, ys: Tensor, same: bool) -> float:
        pairs = [(x, y) for i, x in enumerate(xs) for j, y in enumerate(ys) if not (same and i == j)]
        return sum((float(x @ y) / 3 + 1) ** 3 for x, y in pairs) / len(pairs)

    expected = mean_pairs(a, a, True) + mean_pairs(b, b, True) - 2 * mean_pairs(a, b, False)
    assert kernel(a, b).value == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_agrees_with_torch_fidelity_across_row_blocks() -> None:
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity is not installed")
    a, b = draw(1700, 8, seed=1).double(), draw(1700, 8, seed=2, scale=1.1).double()
    theirs = metric_kid.kernel_mmd(
        a.numpy(), b.numpy(), kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1.0,
    )  # fmt: skip
    assert kernel(a, b).value == pytest.approx(theirs, rel=1e-9)


@pytest.mark.slow
def test_kernel_distance_is_unbiased() -> None:
    """Over draws from one distribution it averages to 0, where the biased estimate stays above it."""
    rng = torch.Generator().manual_seed(3)
    values = [kernel(*torch.randn(2, 10, 4, generator=rng)).value for _ in range(1000)]
    error = float(np.std(values)) / math.sqrt(len(values))
    assert abs(float(np.mean(values))) < 4 * error
    assert min(values) < 0


@settings(max_examples=20, deadline=None)
@given(sets)
def test_distances_are_symmetric_and_blind_to_order(numbers: tuple) -> None:
    m, n, d, seed, scale = numbers
    a, b = draw(m, d, seed), draw(n, d, seed + 1, scale)
    size = max(1.0, float(moments(a).covariance.trace()), float(moments(b).covariance.trace()))
    assert frechet(b.flip(0), a).value == pytest.approx(frechet(a, b).value, rel=1e-9, abs=1e-7 * size)
    expected = kernel(a, b).value
    assert kernel(b, a.flip(0)).value == pytest.approx(expected, rel=1e-9, abs=1e-9 * size**3)


@pytest.mark.parametrize("distance", [frechet, at_infinity, kernel])
def test_order_and_size_of_batches_change_nothing(distance: object, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = draw(300, 16, seed=1), draw(250, 16, seed=2, shift=0.3)
    expected = distance(a, b)  # type: ignore[operator]
    order = torch.randperm(250, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr("genmodel.evaluation.figures.pairwise._CELLS", 17 * 250)
    found = distance(a.flip(0), b[order])  # type: ignore[operator]
    assert found.value == pytest.approx(expected.value, rel=1e-9)
    torch.testing.assert_close(found.influence, expected.influence[order], rtol=1e-7, atol=1e-7)


def test_inception_score_reaches_its_bounds() -> None:
    sure_and_varied = torch.eye(5).repeat_interleave(40, dim=0) * 1000  # all classes equally often, one after another
    assert inception_score(sure_and_varied).value == pytest.approx(5)
    assert inception_score(torch.zeros(200, 5)).value == pytest.approx(1)
    assert inception_score(torch.tensor([[1000.0, 0, 0]]).repeat(200, 1)).value == pytest.approx(1)


def test_inception_score_agrees_with_torch_fidelity() -> None:
    metric_isc = pytest.importorskip("torch_fidelity.metric_isc", reason="torch-fidelity is not installed")
    logits = draw(500, 10, seed=4)
    parts = torch.cat([logits[start::10] for start in range(10)])  # they take the parts one after the other
    theirs = metric_isc.isc_features_to_metric(parts, splits=10, shuffle=False)["inception_score_mean"]
    assert inception_score(logits).value == pytest.approx(theirs, rel=1e-3)


def test_what_is_no_number_gives_nan_not_an_error() -> None:
    broken = draw(20, 3, seed=1)
    broken[4, 1] = math.nan
    assert math.isnan(frechet(broken, draw(20, 3, seed=2)).value)
    assert math.isnan(at_infinity(draw(20, 3, seed=2), broken).value)
    assert math.isnan(kernel(broken, draw(20, 3, seed=2)).value)
    assert math.isnan(inception_score(broken).value)
