import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genmodel.models.noise import Space, image_seeds, uniform
from genmodel.models.parts import losses
from genmodel.models.parts.logistics import draw, level_probabilities, mixture_nll, mixture_width
from genmodel.pixels import to_model

CHANNELS = pytest.mark.parametrize("channels", [1, 3, 4])


def case(channels: int, seed: int, spread: float = 2.0, components: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Random parameters and images of 2 x 3 x 2 pixels, float64."""
    rng = torch.Generator().manual_seed(seed)
    wide = mixture_width(channels, components)
    parameters = spread * torch.randn(2, wide, 3, 2, generator=rng, dtype=torch.float64)
    levels = torch.randint(0, 256, (2, channels, 3, 2), generator=rng)
    return parameters, levels.double() / 127.5 - 1


def test_the_published_widths() -> None:
    assert mixture_width(1, 10) == 30 and mixture_width(3, 10) == 100 and mixture_width(4, 10) == 150


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31), st.sampled_from([1, 3, 4]), st.sampled_from([0.5, 3.0, 20.0]))
def test_the_256_probabilities_of_every_channel_sum_to_one(seed: int, channels: int, spread: float) -> None:
    parameters, images = case(channels, seed, spread)
    for channel in range(channels):
        sums = level_probabilities(parameters, images, channel).sum(dim=1)
        torch.testing.assert_close(sums, torch.ones_like(sums), atol=1e-9, rtol=0)


@CHANNELS
def test_the_likelihood_is_the_product_of_the_channels_probabilities(channels: int) -> None:
    parameters, images = case(channels, 1)
    places = ((images + 1) * 127.5).round().long()
    logs = [
        level_probabilities(parameters, images, channel).gather(1, places[:, channel, None]).log()
        for channel in range(channels)
    ]
    torch.testing.assert_close(mixture_nll(images, parameters), -torch.cat(logs, 1).flatten(1).sum(1))


@CHANNELS
def test_a_channel_reads_only_those_before_it(channels: int) -> None:
    parameters, images = case(channels, 2)
    for channel in range(channels):
        told = level_probabilities(parameters, images, channel)
        for other in range(channels):
            changed = images.clone()
            changed[:, other] = -changed[:, other]
            same = torch.equal(level_probabilities(parameters, changed, channel), told)
            assert same == (other >= channel), (channel, other)


def test_one_component_is_the_discretised_logistic() -> None:
    parameters, images = case(1, 3, components=1)
    expected = losses.discretised_logistic_nll(images, parameters[:, 1:2], parameters[:, 2:3])
    torch.testing.assert_close(mixture_nll(images, parameters), expected)


def test_colours_are_coupled_as_published() -> None:
    """Salimans et al. 2017, section 2.2, written out for one pixel and two components."""
    rng = torch.Generator().manual_seed(4)
    numbers = torch.randn(10, 2, generator=rng, dtype=torch.float64)  # of a pixel, by component
    red, green, blue = 0.2, -0.4, 1.0
    pixel = (torch.tensor([red, green, blue], dtype=torch.float64) * 127.5 + 127.5).round() / 127.5 - 1
    total = 0.0
    for k in range(2):
        logits, mean, log_scale = numbers[0], numbers[1:4, k], numbers[4:7, k]
        a, b, c = numbers[7:, k].tanh()
        means = [mean[0], mean[1] + a * pixel[0], mean[2] + b * pixel[0] + c * pixel[1]]
        mass = logits.softmax(0)[k]
        for value, at, width in zip(pixel, means, log_scale, strict=True):
            upper, lower = torch.sigmoid(
                (value + torch.tensor([1 / 255, -1 / 255], dtype=torch.float64) - at) / width.exp()
            )
            mass = mass * ((1 if value == 1 else upper) - lower)
        total += float(mass)
    found = mixture_nll(pixel.view(1, 3, 1, 1), numbers.view(1, 20, 1, 1))
    assert float(found) == pytest.approx(-math.log(total), rel=1e-9)


def test_a_narrow_scale_stops_at_the_least() -> None:
    narrow = torch.tensor([0.0, 0.0, -30.0]).view(1, 3, 1, 1)
    least = torch.tensor([0.0, 0.0, -7.0]).view(1, 3, 1, 1)
    image = torch.full((1, 1, 1, 1), 1 / 255)
    assert torch.equal(mixture_nll(image, narrow), mixture_nll(image, least))


@CHANNELS
def test_the_loss_and_its_gradient_are_finite_in_float32_and_right(channels: int) -> None:
    parameters, images = case(channels, 5, spread=8.0)
    slopes = []
    for dtype in (torch.float64, torch.float32):
        numbers = parameters.to(dtype).requires_grad_()
        nll = mixture_nll(images.to(dtype), numbers)
        (slope,) = torch.autograd.grad(nll.sum(), numbers)
        assert torch.isfinite(nll).all() and torch.isfinite(slope).all()
        slopes.append(slope.double())
    torch.testing.assert_close(slopes[1], slopes[0], atol=2e-3, rtol=2e-3)


@CHANNELS
def test_what_is_drawn_has_the_probabilities_of_the_likelihood(channels: int) -> None:
    """Every channel of one pixel, given the same ones before it: 5,000 draws from declared noise."""
    n = 5_000
    parameters, _ = case(channels, 6, spread=1.0)
    numbers = parameters[:1, :, :1, :1].float().expand(n, -1, -1, -1)
    noise = torch.from_numpy(Space((uniform(1 + channels, 1, 1),)).draw(image_seeds(0, n))).view(n, -1, 1, 1)
    drawn = draw(numbers, noise)
    for channel in range(channels):
        expected = level_probabilities(numbers, drawn, channel)[:, :, 0, 0].double().mean(0).numpy()
        levels = ((drawn[:, channel].flatten() + 1) * 127.5).round().long().numpy()
        seen = np.bincount(levels, minlength=256) / n
        assert np.abs(seen.cumsum() - expected.cumsum()).max() < 1.95 / math.sqrt(n)  # Kolmogorov's bound at 0.1%


@CHANNELS
def test_what_is_drawn_is_at_the_levels_of_images(channels: int) -> None:
    parameters, _ = case(channels, 7)
    ends = torch.full((2, 1 + channels, 3, 2), -1.0)
    for noise in (ends, -ends - 2**-24, torch.zeros_like(ends)):
        drawn = draw(parameters.float(), noise)
        levels = ((drawn + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
        assert drawn.shape == (2, channels, 3, 2) and torch.equal(drawn, to_model(levels))
