from typing import Any

import pytest
import torch
from torch import nn

from genmodel.models.parts.weight_norm import WeightNorm, fitting

LAYERS = [lambda: nn.Linear(6, 4), lambda: nn.Conv2d(3, 4, 4, 2, 1)]
INPUTS = [torch.randn(50, 6) * 3 + 1, torch.randn(50, 3, 8, 8) * 3 + 1]


@pytest.mark.parametrize(("layer", "values"), list(zip(LAYERS, INPUTS, strict=True)))
def test_it_is_torchs_weight_norm(layer: Any, values: torch.Tensor) -> None:
    plain = layer()
    mine = WeightNorm(plain, learn_scale=True)
    with torch.no_grad():
        mine.scale.uniform_(0.5, 2)
    theirs = nn.utils.parametrizations.weight_norm(layer())
    theirs.load_state_dict(
        {
            "bias": plain.bias,
            "parametrizations.weight.original0": mine.scale.detach().view(-1, *[1] * (plain.weight.ndim - 1)),
            "parametrizations.weight.original1": plain.weight,
        }
    )
    torch.testing.assert_close(mine(values), theirs(values), rtol=1e-4, atol=1e-5)
    mine(values).square().sum().backward()
    theirs(values).square().sum().backward()
    expected = theirs.parametrizations.weight
    torch.testing.assert_close(plain.weight.grad, expected.original1.grad, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(mine.scale.grad, expected.original0.grad.flatten(), rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize(("layer", "values"), list(zip(LAYERS, INPUTS, strict=True)))
def test_fitted_outputs_have_mean_0_and_variance_1(layer: Any, values: torch.Tensor) -> None:
    mine = WeightNorm(layer())
    told = mine.fit(mine(values))
    torch.testing.assert_close(told, mine(values), rtol=1e-4, atol=1e-4)
    over = (0, *range(2, told.ndim))
    torch.testing.assert_close(told.mean(over), torch.zeros(4), rtol=0, atol=1e-4)
    torch.testing.assert_close(told.std(over, correction=0), torch.ones(4), rtol=0, atol=1e-4)


def test_equal_images_leave_it_finite() -> None:
    mine = WeightNorm(nn.Linear(6, 4))
    assert mine.fit(mine(torch.ones(10, 6))).isfinite().all() and mine(torch.randn(3, 6)).isfinite().all()


def test_a_scale_is_trained_only_where_it_is_to_learn() -> None:
    assert {name for name, _ in WeightNorm(nn.Linear(6, 4)).named_parameters()} == {"layer.weight", "layer.bias"}
    assert "scale" in dict(WeightNorm(nn.Linear(6, 4), learn_scale=True).named_parameters())
    assert "scale" in WeightNorm(nn.Linear(6, 4)).state_dict(), "it is kept all the same"


def test_a_network_is_fitted_layer_by_layer_and_only_inside() -> None:
    network = nn.Sequential(WeightNorm(nn.Linear(6, 5)), nn.ReLU(), WeightNorm(nn.Linear(5, 4)))
    values, before = torch.randn(50, 6) * 3 + 1, network.state_dict()["0.scale"].clone()
    network(values)
    assert torch.equal(network[0].scale, before)
    with fitting(network):
        network(values)
    first = network[0](values)
    for output in (first, network[2](first.relu())):
        torch.testing.assert_close(output.mean(0), torch.zeros(output.shape[1]), rtol=0, atol=1e-4)
        torch.testing.assert_close(output.std(0, correction=0), torch.ones(output.shape[1]), rtol=0, atol=1e-4)
    fitted = network[0].scale.clone()
    network(values + 3)
    assert torch.equal(network[0].scale, fitted)
