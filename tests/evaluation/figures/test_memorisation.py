"""The positive control: a generator that copies is told from an honest one, by the share that it copies."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genmodel.evaluation.figures.memorisation import Copies, copies
from genmodel.evaluation.figures.pairwise import to_nearest, within

D = 8
RNG = torch.Generator().manual_seed(0)
TRAIN, HELD_OUT = torch.randn(2000, D, generator=RNG), torch.randn(300, D, generator=RNG)


def judge(samples: Tensor, searched: float = 1.0, train: Tensor = TRAIN) -> Copies:
    real = within(train).neighbours[:, 0], to_nearest(train, HELD_OUT)
    return copies(real, (to_nearest(samples, train), to_nearest(samples, HELD_OUT)), searched)


def generate(n: int, copied: float, seed: int, noise: float = 0.0) -> Tensor:
    """Samples of the truth, of which a share are training images, moved by a little noise."""
    rng = torch.Generator().manual_seed(1000 + seed)  # no number of RNG again
    samples = torch.randn(n, D, generator=rng)
    copies = round(copied * n)
    rows = torch.randperm(len(TRAIN), generator=rng)[:copies]
    samples[:copies] = TRAIN[rows] + noise * torch.randn(copies, D, generator=rng)
    return samples


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_a_generator_that_copies_is_told_from_an_honest_one(share: float, seed: int) -> None:
    honest, copier = judge(generate(2000, 0.0, seed)), judge(generate(2000, share, seed))
    assert honest.visible < 0.01
    assert not honest.seen and copier.seen
    assert copier.copied.value == pytest.approx(share, abs=0.006)


def test_near_copies_are_seen_too() -> None:
    assert judge(generate(2000, 0.05, 0, noise=0.05)).seen


@pytest.mark.slow
def test_the_smallest_share_is_seen_and_none_is_invented() -> None:
    """99 times in 100 each; some more of 80 are let pass, for counts this small are not Gaussian."""
    limit = judge(generate(1000, 0.0, 0)).visible
    assert np.mean([judge(generate(1000, limit, seed)).seen for seed in range(1, 81)]) >= 0.95
    assert np.mean([judge(generate(1000, 0.0, seed)).seen for seed in range(1, 81)]) <= 0.05


def test_blurred_samples_are_not_taken_for_copies() -> None:
    """They lie nearer to everything, to what was held out as well."""
    assert not judge(0.5 * generate(2000, 0.0, 3)).seen


def test_the_fewer_are_searched_the_larger_a_share_must_be() -> None:
    whole, tenth = judge(generate(2000, 0.0, 1)), judge(generate(2000, 0.0, 1), searched=0.1)
    assert tenth.visible == pytest.approx(10 * whole.visible)
    half = TRAIN[::2]  # of a generator that copies 20%, half of the copies are met, and the estimate knows
    found = judge(generate(2000, 0.2, 1), searched=0.5, train=half)
    assert found.copied.value == pytest.approx(0.2, abs=0.03)


def test_a_sample_that_is_a_held_out_image_is_no_copy() -> None:
    samples = generate(200, 0.0, 1)
    samples[:20] = HELD_OUT[:20]
    assert judge(samples).copied.value == 0


def test_copies_of_twins_and_what_is_no_number() -> None:
    twins = torch.cat([TRAIN[:100], TRAIN[:100]])
    assert not judge(generate(200, 0.0, 1), train=twins).seen  # a twin among the training images is not a copy
    broken = generate(50, 0.0, 1)
    broken[3] = math.nan
    assert math.isnan(judge(broken).copied.value)
