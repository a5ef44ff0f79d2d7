"""The search for the noise of what is seen: it finds it, keeps to what the noise may be, and says how sure it is."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genmodel.applications.inversion import columns_of, corrected, drawn, search, variance
from genmodel.applications.observing import known_pixels, noisy, smaller
from genmodel.models.abilities import Observation
from genmodel.models.contract import Family
from genmodel.models.noise import image_seeds

pytestmark = pytest.mark.usefixtures("toys")
Build = Callable[..., Family]
HALF = torch.arange(16)[:, None].expand(16, 16) < 8


def noise(model: Family, n: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(model.space.draw(image_seeds(seed, n)))


def observations(images: Tensor) -> list[Observation]:
    return [known_pixels(images, HALF), smaller(torch.nn.functional.avg_pool2d(images, 2), 2), noisy(images, 0.2)]


@pytest.mark.parametrize("family", ["three", "categories", "conditional"])
@pytest.mark.parametrize("kind", [0, 1])
def test_the_noise_of_a_sample_is_found_from_a_part_of_it(family: str, kind: int, built: Build) -> None:
    """The rest of the image follows, category and class included: nothing was told of either."""
    model = built(family, classes=3)
    labels = torch.arange(64) % 3
    truth = drawn(model, noise(model, 1, seed=9), torch.tensor([2]))
    starts = noise(model, 64)
    found, label = search(model, observations(truth)[kind], starts, labels, starts)
    made = drawn(model, found, label)
    apart = [float((drawn(model, one[None], torch.tensor([2])) - truth).square().mean().sqrt()) for one in starts]
    assert float((made - truth).square().mean().sqrt()) < min(apart) / 3  # none of the candidates was it
    for part, columns in columns_of(model.space):
        if part == "uniform":
            assert found[:, columns].abs().max() <= 1
        if part == "categorical":
            assert found[:, columns].item() in (0, 1, 2)


def test_uniform_noise_stays_in_its_range_whatever_is_asked_for(built: Build) -> None:
    model = built("categories")
    starts, beyond = noise(model, 64), torch.tensor([[3.0, -3.0, 3.0, -3.0, 1.0]])
    found, _ = search(model, noisy(model.sample(beyond), 0.0), starts, torch.full((64,), -1), starts)
    assert found[:, :4].abs().max() == 1 and found[0, 4] == 1  # at the edge


def test_what_is_not_seen_stays_as_it_was_drawn(built: Build) -> None:
    """Where an observation tells nothing the centre is kept, to the last bit."""
    model = built("three")
    starts = noise(model, 64)
    nothing = known_pixels(torch.zeros(1, 3, 16, 16), torch.zeros(16, 16, dtype=torch.bool))
    found, _ = search(model, nothing, starts, torch.full((64,), -1), starts)
    assert torch.equal(found, starts[:1])


@pytest.mark.slow
def test_normal_noise_is_held_by_the_prior(built: Build) -> None:
    """The less an observation tells, the nearer the noise stays to its centre."""
    model = built("three")
    truth, starts = model.sample(3 * noise(model, 1, seed=9)), noise(model, 64)
    far = [
        float(search(model, noisy(truth, deviation), starts, starts[:, 0].long(), 0 * starts)[0].norm())
        for deviation in (0.01, 1.0, 5.0, 50.0)
    ]
    assert far == sorted(far, reverse=True) and far[-1] < 0.2


def test_an_image_is_moved_to_what_is_seen_of_it_and_never_further_from_the_truth() -> None:
    rng = torch.Generator().manual_seed(0)
    truth, guess = (2 * torch.rand(6, 3, 16, 16, generator=rng) - 1 for _ in range(2))
    for observation in observations(truth)[:2]:
        made = corrected(observation, guess)
        torch.testing.assert_close(observation.look(made), observation.seen)
        assert (variance(noisy(truth, 0), made) < variance(noisy(truth, 0), guess)).all()


def test_of_noisy_pixels_an_image_takes_what_the_noise_does_not_explain() -> None:
    """By the share that James and Stein found in 1961: with a good guess little, with a bad one nearly all."""
    rng = torch.Generator().manual_seed(0)
    truth = 0.1 * torch.randn(1, 3, 64, 64, generator=rng)
    seen = truth + 0.1 * torch.randn(truth.shape, generator=rng)
    for away in (0.02, 0.1, 1.0):
        guess = truth + away * torch.randn(truth.shape, generator=rng)
        made = corrected(noisy(seen, 0.1), guess)
        error = float((made - truth).square().mean())
        assert error == pytest.approx(1 / (1 / away**2 + 1 / 0.1**2), rel=0.1)  # what two such views of it leave
    assert torch.equal(corrected(noisy(seen, 0.1), seen), seen)  # nothing to explain


def test_noise_that_was_cut_off_makes_nothing_brighter_or_darker() -> None:
    """In a file, black and white pixels keep only the half of their noise that lies within the levels."""
    rng = torch.Generator().manual_seed(0)
    for level in (-1.0, 0.0, 1.0):
        images = torch.full((1, 1, 100, 100), level)
        file = (images + 0.3 * torch.randn(images.shape, generator=rng)).clamp(-1, 1)
        assert float(noisy(file, 0.3).seen.mean()) == pytest.approx(level, abs=0.01)
        assert level == 0 or abs(float(file.mean()) - level) > 0.1
    assert torch.equal(noisy(images, 0.0).seen, images)
