"""The drift of colours and features: what it says of images that are alike, brighter, or others altogether."""

import pytest
import torch
from torch import Tensor

from genmodel.data_report.drift import BINS, colour_drift, feature_drift, levels
from genmodel.evaluation.figures.distances import frechet_distance, moments, square_root


def images(count: int, seed: int, brighter: int = 0, side: int = 8, channels: int = 3) -> Tensor:
    """uint8 [count, side, side, channels]; each has a brightness of its own."""
    rng = torch.Generator().manual_seed(seed)
    own = torch.randint(0, 60, (count, 1, 1, channels), generator=rng)
    noise = torch.randint(0, 60, (count, side, side, channels), generator=rng)
    return (40 + brighter + own + noise).to(torch.uint8)


def test_levels_are_those_of_every_pixel() -> None:
    drawn = images(5, 0)
    found, wide = levels(drawn), drawn.double().flatten(1, 2)
    torch.testing.assert_close(found.means, wide.mean(1))
    torch.testing.assert_close(found.squares, wide.square().mean(1))
    expected = [torch.histc(image[:, 1], BINS, 0, 256) / 64 for image in wide]
    torch.testing.assert_close(found.shares[:, 1], torch.stack(expected))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colours_that_moved_are_told_by_how_much_and_others_are_not(channels: int) -> None:
    old, new = images(300, 1, channels=channels), images(200, 2, channels=channels)
    new[..., 0] += 16  # two bins, so that the histograms are moved by exactly that
    rows = colour_drift(old, new)
    assert len(rows) == channels
    for place, row in enumerate(rows):
        plain = new[..., place].double().mean() - old[..., place].double().mean()
        assert row["mean"]["difference"] == pytest.approx(float(plain))
        spread = new[..., place].double().std(correction=0) - old[..., place].double().std(correction=0)
        assert row["deviation"]["difference"] == pytest.approx(float(spread))
        assert row["mean"]["low"] < row["mean"]["difference"] < row["mean"]["high"] < row["mean"]["low"] + 12
        assert (row["distance"]["low"] > row["distance"]["chance"]) == (place == 0)
    assert rows[0]["mean"]["low"] < 16 < rows[0]["mean"]["high"]
    assert rows[0]["distance"]["low"] < 16 < rows[0]["distance"]["high"]
    assert colour_drift(old, new) == rows, "equal images give an equal report"


@pytest.mark.slow
def test_an_interval_is_as_wide_as_the_means_of_such_sets_vary() -> None:
    """Over 100 pairs of sets that differ by nothing; 95% of the intervals should hold 0."""
    held = [
        row["mean"]["low"] <= 0 <= row["mean"]["high"]
        for seed in range(100)
        for row in colour_drift(images(60, 2 * seed, side=2, channels=1), images(30, 2 * seed + 1, side=2, channels=1))
    ]
    assert 0.88 <= sum(held) / len(held) < 1


def test_features_that_are_alike_have_not_drifted_and_others_have_by_their_share_of_the_variance() -> None:
    rng = torch.Generator().manual_seed(0)
    old, new = (torch.randn(n, 100, generator=rng) for n in (500, 120))
    found = feature_drift(old, new)
    assert found is not None
    assert found["drift"] <= found["chance"] and found["low"] == 0, found
    moved = feature_drift(old, new + 0.5)  # a shift of 100 * 0.25, beside a variance of 100
    assert moved is not None
    assert moved["low"] < 0.25 < moved["high"] and moved["low"] > moved["chance"], moved


def test_few_new_images_are_not_taken_for_a_drift() -> None:
    """The plain Frechet distance of 10 images is large for lack of images alone."""
    rng = torch.Generator().manual_seed(0)
    old, new = (torch.randn(n, 20, generator=rng) for n in (400, 10))
    mean, covariance = moments(old)
    plain = frechet_distance(mean, square_root(covariance), new).value / 20
    found = feature_drift(old, new)
    assert found is not None
    assert plain > 0.4 and found["drift"] < 0.1 and found["drift"] <= found["chance"]


def test_images_that_are_all_the_same_have_no_drift_to_measure() -> None:
    assert feature_drift(torch.ones(10, 4), torch.rand(10, 4)) is None
