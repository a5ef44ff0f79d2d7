import math

import pytest
import torch

from genmodel.models.noise import Space, categorical, image_seeds, normal, uniform
from genmodel.sampling.requests import codes
from genmodel.sampling.walks import between, smooth_walks

SPACE = Space((normal(2, 3), uniform(4), categorical(10, 2)))


def ends(space: Space, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    start, end = torch.from_numpy(space.draw(image_seeds(seed, 2)))
    return start, end


@pytest.mark.parametrize("frames", [2, 3, 24, 101])
@pytest.mark.parametrize("seed", range(5))
def test_a_walk_begins_and_ends_at_the_last_bit_of_its_ends(frames: int, seed: int) -> None:
    start, end = ends(SPACE, seed)
    way = between(SPACE, start, end, frames)
    assert way.shape == (frames, 12) and torch.equal(way[0], start) and torch.equal(way[-1], end)


def test_a_normal_part_turns_evenly_on_its_arc() -> None:
    """A quarter of a circle, whose points are known; and in 3D Shoemake's formula in float64, term by term."""
    quarter = between(Space((normal(2),)), torch.tensor([3.0, 0]), torch.tensor([0, 3.0]), 4)
    angles = torch.tensor([0, math.pi / 6, math.pi / 3, math.pi / 2])
    torch.testing.assert_close(quarter, 3 * torch.stack([angles.cos(), angles.sin()], dim=1), atol=1e-5, rtol=0)
    start, end = ends(Space((normal(3),)))
    angle = math.acos(float(start.double() @ end.double() / start.double().norm() / end.double().norm()))
    for place, point in enumerate(between(Space((normal(3),)), start, end, 11)):
        t = place / 10
        expected = (math.sin((1 - t) * angle) * start + math.sin(t * angle) * end) / math.sin(angle)
        torch.testing.assert_close(point, expected, atol=1e-5, rtol=1e-5)


def test_the_middle_of_a_walk_is_as_long_as_what_is_drawn() -> None:
    """On a straight line it would be shorter by the square root of 2, where a generator was never trained."""
    space = Space((normal(512),))
    start, end = ends(space)
    middle = between(space, start, end, 3)[1].norm() / math.sqrt(512)
    assert float(middle) == pytest.approx(1, abs=0.1) and float((start + end).norm()) / 2 / math.sqrt(512) < 0.8


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0])
def test_where_there_is_no_arc_it_goes_straight(factor: float) -> None:
    start = torch.tensor([1.0, 2, -1])
    way = between(Space((normal(3),)), start, factor * start, 5)
    expected = torch.stack([start + (factor - 1) * t * start for t in (0, 0.25, 0.5, 0.75, 1)])
    torch.testing.assert_close(way, expected)
    assert way.isfinite().all()


def test_uniform_numbers_go_straight_and_categories_change_halfway() -> None:
    space = Space((uniform(2), categorical(10, 2)))
    way = between(space, torch.tensor([-1.0, 0.5, 3, 7]), torch.tensor([1.0, 0.5, 3, 2]), 6)
    torch.testing.assert_close(way[:, 0], torch.tensor([-1, -0.6, -0.2, 0.2, 0.6, 1]))
    assert way[:, 1:3].tolist() == [[0.5, 3]] * 6 and way[:, 3].tolist() == [7, 7, 7, 2, 2, 2]


def test_smooth_walks_keep_categories_and_class() -> None:
    drawn = codes(SPACE, [1.0] * 5, 8, seed=3)
    walks = smooth_walks(drawn, SPACE, 7)
    assert walks.shape == (4, 7, 13)
    assert torch.equal(walks[:, 0], drawn[0::2]) and torch.equal(walks[:, -1, :10], drawn[1::2, :10])
    assert (walks[:, :, 10:] == drawn[0::2, None, 10:]).all()
    assert not torch.equal(drawn[0::2, 10:], drawn[1::2, 10:]), "there was something to keep"
