import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from genmodel.models.parts import losses


def levels() -> torch.Tensor:
    """All 256 levels in [-1, 1] as 256 images of one colour value each, float64."""
    return (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(256, 1, 1, 1)


@pytest.mark.parametrize("mean", [-1.0, -0.37, 0.0, 0.9, 1.0])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 0.0])
def test_the_256_masses_sum_to_one(mean: float, log_scale: float) -> None:
    """An honest discrete likelihood: nothing is lost at the edges or to cancellation."""
    nll = losses.discretised_logistic_nll(
        levels(), torch.tensor(mean, dtype=torch.float64), torch.tensor(log_scale, dtype=torch.float64)
    )
    assert torch.exp(-nll).sum().item() == pytest.approx(1, abs=1e-9)


def test_discretised_logistic_is_the_difference_of_two_sigmoids() -> None:
    mean, log_scale = torch.tensor(0.1, dtype=torch.float64), torch.tensor(-2.0, dtype=torch.float64)
    image = levels()[100:101]
    scale = math.exp(-2.0)
    upper = torch.sigmoid((image + 1 / 255 - mean) / scale)
    lower = torch.sigmoid((image - 1 / 255 - mean) / scale)
    expected = -torch.log(upper - lower).item()
    assert losses.discretised_logistic_nll(image, mean, log_scale).item() == pytest.approx(expected, rel=1e-9)


def test_discretised_logistic_and_its_gradient_stay_finite_in_float32() -> None:
    log_scale = torch.tensor(-12.0, requires_grad=True)
    nll = losses.discretised_logistic_nll(levels().float(), torch.tensor(0.3), log_scale)
    nll.sum().backward()
    assert torch.isfinite(nll).all()
    assert log_scale.grad is not None and torch.isfinite(log_scale.grad)


def test_gaussian_kl_agrees_with_torch() -> None:
    mu, logvar = torch.randn(5, 7, dtype=torch.float64), torch.randn(5, 7, dtype=torch.float64)
    expected = kl_divergence(Normal(mu, (0.5 * logvar).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(losses.gaussian_kl(mu, logvar), expected)


def test_gan_losses_by_hand() -> None:
    zero = torch.zeros(3)
    assert losses.discriminator_loss(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert losses.non_saturating_loss(zero).item() == pytest.approx(math.log(2))
    real, fake = torch.tensor([2.0]), torch.tensor([-1.0])
    sigmoid = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    expected = -math.log(sigmoid(2)) - math.log(1 - sigmoid(-1))
    assert losses.discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-6)


def test_bits_per_dim_of_uniform_pixels_is_eight() -> None:
    nats = torch.tensor([12 * math.log(256)])
    assert losses.bits_per_dim(nats, 12).item() == pytest.approx(8)


def test_free_bits_charge_each_group_at_least_its_floor_on_average_over_the_batch() -> None:
    """Kingma et al. 2016, eq. 15: of groups with means 1, 3 and -0.5."""
    rates = torch.tensor([[0.0, 2.0, -1.0], [2.0, 4.0, 0.0]], requires_grad=True)
    assert losses.free_bits(rates, 0, lambda values: values).item() == pytest.approx(1 + 3 - 0.5)
    assert losses.free_bits(rates, 2, lambda values: values).item() == pytest.approx(2 + 3 + 2)
    (slope,) = torch.autograd.grad(losses.free_bits(rates, 2, lambda values: values), rates)
    assert slope.tolist() == [[0, 0.5, 0]] * 2, "nothing to gain below the floor, in single images either"


def test_free_bits_are_of_the_batch_of_all_processes() -> None:
    other = torch.tensor([[5.0, 0.0]])
    charged = losses.free_bits(torch.tensor([[1.0, 1.0]]), 2, lambda mine: torch.cat([mine, other]))
    assert charged.item() == pytest.approx(3 + 2)
