import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from genmodel.evaluation.statistics import Moments, frechet_distance, inception_score, kernel_distance, moments


def draw(n: int, d: int, seed: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=rng) @ torch.randn(d, d, generator=rng) * scale + shift


sets = st.tuples(st.integers(2, 60), st.integers(2, 60), st.integers(1, 12), st.integers(0, 2**31), st.floats(0.01, 10))


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
    own = moments(draw(n, d, seed, scale))
    assert frechet_distance(own, own) <= 1e-9 * max(1.0, float(own.covariance.trace()))


def test_frechet_distance_agrees_with_scipys_matrix_root() -> None:
    a, b = moments(draw(300, 16, seed=1)), moments(draw(200, 16, seed=2, scale=1.5, shift=0.3))
    root = sqrtm(a.covariance.numpy() @ b.covariance.numpy())
    expected = ((a.mean - b.mean) ** 2).sum() + (a.covariance + b.covariance).trace() - 2 * np.trace(root.real)
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9)


def test_frechet_distance_agrees_with_torch_fidelity() -> None:
    metric_fid = pytest.importorskip("torch_fidelity.metric_fid", reason="torch-fidelity is not installed")
    a, b = draw(300, 16, seed=1).double(), draw(200, 16, seed=2, scale=1.5, shift=0.3).double()
    theirs = metric_fid.fid_statistics_to_metric(
        metric_fid.fid_features_to_statistics(a), metric_fid.fid_features_to_statistics(b), verbose=False
    )["frechet_inception_distance"]
    assert frechet_distance(moments(a), moments(b)) == pytest.approx(theirs, rel=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-5, 5)] * 2, *[st.floats(0, 4)] * 2), min_size=1, max_size=6))
def test_frechet_distance_of_axis_aligned_gaussians_is_the_closed_form(axes: list) -> None:
    """With diagonal covariances it is the squared distance of means and of standard deviations."""
    means_a, means_b, deviations_a, deviations_b = torch.tensor(axes, dtype=torch.float64).T
    a, b = Moments(means_a, deviations_a.square().diag()), Moments(means_b, deviations_b.square().diag())
    expected = (means_a - means_b).square().sum() + (deviations_a - deviations_b).square().sum()
    assert frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-9, abs=1e-9)


def test_kernel_distance_agrees_with_a_double_loop() -> None:
    a, b = draw(7, 3, seed=1).double(), draw(5, 3, seed=2).double()

    def mean_kernel(xs: torch.Tensor, ys: torch.Tensor, same: bool) -> float:
        pairs = [(x, y) for i, x in enumerate(xs) for j, y in enumerate(ys) if not (same and i == j)]
        return sum((float(x @ y) / 3 + 1) ** 3 for x, y in pairs) / len(pairs)

    expected = mean_kernel(a, a, True) + mean_kernel(b, b, True) - 2 * mean_kernel(a, b, False)
    assert kernel_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_kernel_distance_agrees_with_torch_fidelity_across_row_blocks() -> None:
    metric_kid = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity is not installed")
    a, b = draw(1100, 8, seed=1).double(), draw(1100, 8, seed=2, scale=1.1).double()
    theirs = metric_kid.kernel_mmd(
        a.numpy(), b.numpy(), kid_kernel="poly", kid_kernel_poly_degree=3, kid_kernel_poly_gamma=None,
        kid_kernel_poly_coef0=1.0,
    )  # fmt: skip
    assert kernel_distance(a, b) == pytest.approx(theirs, rel=1e-9)


def test_kernel_distance_is_unbiased() -> None:
    """Over draws from one distribution it averages to 0, where the biased estimate stays above it."""
    rng = torch.Generator().manual_seed(3)
    values = [kernel_distance(*torch.randn(2, 10, 4, generator=rng)) for _ in range(1000)]
    error = float(np.std(values)) / math.sqrt(len(values))
    assert abs(float(np.mean(values))) < 4 * error
    assert min(values) < 0


@settings(max_examples=20, deadline=None)
@given(sets)
def test_distances_are_symmetric_and_blind_to_order(numbers: tuple) -> None:
    m, n, d, seed, scale = numbers
    a, b = draw(m, d, seed), draw(n, d, seed + 1, scale)
    frechet, kernel = frechet_distance(moments(a), moments(b)), kernel_distance(a, b)
    size = max(1.0, float(moments(a).covariance.trace()), float(moments(b).covariance.trace()))
    assert frechet_distance(moments(b.flip(0)), moments(a)) == pytest.approx(frechet, rel=1e-9, abs=1e-7 * size)
    assert kernel_distance(b, a.flip(0)) == pytest.approx(kernel, rel=1e-9, abs=1e-9 * size**3)


def test_inception_score_reaches_its_bounds() -> None:
    sure_and_varied = torch.eye(5).repeat_interleave(40, dim=0) * 1000  # all classes equally often, one after another
    assert inception_score(sure_and_varied) == pytest.approx(5)
    assert inception_score(torch.zeros(200, 5)) == pytest.approx(1)
    assert inception_score(torch.tensor([[1000.0, 0, 0]]).repeat(200, 1)) == pytest.approx(1)


def test_inception_score_agrees_with_torch_fidelity() -> None:
    metric_isc = pytest.importorskip("torch_fidelity.metric_isc", reason="torch-fidelity is not installed")
    logits = draw(500, 10, seed=4)
    parts = torch.cat([logits[start::10] for start in range(10)])  # they take the parts one after the other
    theirs = metric_isc.isc_features_to_metric(parts, splits=10, shuffle=False)["inception_score_mean"]
    assert inception_score(logits) == pytest.approx(theirs, rel=1e-3)


def test_what_is_no_number_gives_nan_not_an_error() -> None:
    broken = draw(20, 3, seed=1)
    broken[4, 1] = math.nan
    assert math.isnan(frechet_distance(moments(broken), moments(draw(20, 3, seed=2))))
    assert math.isnan(kernel_distance(broken, draw(20, 3, seed=2)))
    assert math.isnan(inception_score(broken))
