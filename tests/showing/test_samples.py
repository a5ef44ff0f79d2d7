import itertools
from pathlib import Path

import hypothesis.strategies as st
import torch
from hypothesis import given

from genmodel.models.contract import build_model
from genmodel.sampling.draw import sample_classes
from genmodel.showing.samples import SampleGrids, grid_of, log_spaced, sample_moments
from genmodel.sizes import Size
from tests.training.telling import config


def test_the_timeline_has_a_row_for_each_log_spaced_grid(tmp_path: Path) -> None:
    grids = SampleGrids(tmp_path)
    for moment in sample_moments(1_024, 8):
        grids.add(moment, torch.full((16, 64, 64, 3), moment // 8, dtype=torch.uint8))
    assert len(grids.paths()) > 30
    page = grids.timeline(columns=8, size=Size(64, 64))
    height = 64 + 2
    shades = [page.getpixel((page.width - 20, row * height + 33))[0] for row in range(page.height // height)]
    assert shades == [0, 1, 2, 4, 8, 16, 32, 64, 128]


@given(st.integers(1, 10**7), st.integers(1, 512))
def test_moments_are_steps_and_hold_the_start_and_the_end(images: int, images_per_step: int) -> None:
    moments = sample_moments(images, images_per_step)
    assert 0 in moments
    assert max(moments) == -(-images // images_per_step) * images_per_step
    assert all(moment % images_per_step == 0 for moment in moments)
    assert len(moments) <= 43
    assert len(log_spaced(moments)) <= 12


@given(st.integers(1, 10**7), st.integers(1, 512))
def test_no_32nd_of_a_training_passes_without_a_grid(images: int, images_per_step: int) -> None:
    moments = sorted(sample_moments(images, images_per_step))
    assert all(after - before < moments[-1] / 32 + images_per_step for before, after in itertools.pairwise(moments))


@given(st.integers(1, 10**7), st.integers(1, 512))
def test_the_log_spaced_are_powers_of_two_in_whole_steps(images: int, images_per_step: int) -> None:
    moments = sample_moments(images, images_per_step)
    end = max(moments)
    powers = {2**k for k in range(24) if end / 1024 <= 2**k < end}
    assert set(log_spaced(moments)) == {0, end} | {-(-power // images_per_step) * images_per_step for power in powers}


def test_models_of_unlike_budgets_are_drawn_at_the_same_log_spaced_moments() -> None:
    short, long = (set(log_spaced(sample_moments(images, 64))) for images in (160_000, 200_000))
    assert short - {160_000} == long - {200_000}
    assert {0, 256, 1024, 131_072} < short


def test_linearly_spaced_moments_worked_by_hand() -> None:
    assert {5_056, 10_048, 80_000, 155_008} < sample_moments(160_000, 64), "5,000 is 78.1 steps of 64: 79 steps"
    assert len(sample_moments(160_000, 64)) == 43


def test_a_grid_has_a_row_a_class_whose_columns_have_the_same_noise() -> None:
    model = build_model(config(), classes=3).eval()
    grid = grid_of(model, seed=5)
    assert grid.shape == (3 * 8, 8, 8, 3)
    assert torch.equal(grid, sample_classes(model, 8, 5, [0, 1, 2])), "always the same"
    assert all(torch.equal(grid[8 * label : 8 * label + 8], sample_classes(model, 8, 5, [label])) for label in range(3))
    with torch.no_grad():
        model.colours.weight.fill_(0.5)  # type: ignore[union-attr,operator]
    rows = grid_of(model, seed=5).split(8)
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0][0], rows[0][1])


def test_a_model_of_many_classes_shows_the_first_ones() -> None:
    assert len(grid_of(build_model(config(), classes=40).eval(), seed=0)) == 16 * 8
