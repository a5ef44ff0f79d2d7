"""Layers of residual networks against torch's own, and their derivatives of both orders."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genmodel.models.parts.residual import Grouped, Resample, only_images


def grouped(channels: int = 6, groups: int = 3) -> Grouped:
    layer = Grouped(channels, groups).double()
    rng = torch.Generator().manual_seed(0)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight, generator=rng)
    return layer


def maps(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()


def by(layer: Grouped, values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, values)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_a_grouped_convolution_and_its_derivatives(groups: int) -> None:
    layer, values = grouped(6, groups), maps(2, 4, 3, 6)
    expected = F.conv2d(values.permute(0, 3, 1, 2), layer.weight, layer.bias, padding=1, groups=groups)
    torch.testing.assert_close(layer(values), expected.permute(0, 2, 3, 1))
    with torch.no_grad():
        torch.testing.assert_close(layer(values), expected.permute(0, 2, 3, 1))
    weights = [weight.detach().clone().requires_grad_() for weight in layer.parameters()]
    assert torch.autograd.gradcheck(lambda *given: by(layer, *given), (values, *weights))
    assert torch.autograd.gradgradcheck(lambda *given: by(layer, *given), (values, *weights))


def test_for_a_penalty_no_gradient_of_weights_is_made_and_its_own_gradient_reaches_them() -> None:
    layer, values = grouped(), maps(2, 4, 4, 6)

    def penalty() -> Tensor:
        (slopes,) = torch.autograd.grad(F.leaky_relu(layer(values), 0.2).sum(), values, create_graph=True)
        return slopes.square().sum()

    expected = torch.autograd.grad(penalty(), layer.weight)
    with only_images():
        found = penalty()
        assert torch.autograd.grad(layer(values).sum(), layer.weight, allow_unused=True) == (None,)
    torch.testing.assert_close(torch.autograd.grad(found, layer.weight), expected)
    assert torch.autograd.grad(layer(values).sum(), layer.weight)[0].abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_under_autocast_second_derivatives_reach_the_weights(dtype: torch.dtype) -> None:
    layer, values = grouped().float(), maps(2, 4, 4, 6).detach().float().requires_grad_()
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        made = layer(values)
        (slopes,) = torch.autograd.grad(made.float().square().sum(), values, create_graph=True)
        slopes.float().square().sum().backward()
    assert made.dtype == dtype and layer.weight.grad is not None and layer.weight.grad.dtype == torch.float32
    exact, exactly = grouped(), maps(2, 4, 4, 6)
    (slopes,) = torch.autograd.grad(exact(exactly).square().sum(), exactly, create_graph=True)
    slopes.square().sum().backward()
    assert exact.weight.grad is not None
    error = (layer.weight.grad - exact.weight.grad).norm() / exact.weight.grad.norm()
    assert error < {torch.float32: 1e-5, torch.bfloat16: 0.03}[dtype]


@pytest.mark.parametrize("size", [(4, 4), (5, 8)])
@pytest.mark.parametrize("widths", [(6, 6), (6, 4)])
def test_resampling_smooths_by_1_2_1(size: tuple[int, int], widths: tuple[int, int]) -> None:
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64)
    kernel = (kernel[:, None] * kernel / 16).expand(6, 1, 3, 3)

    def smooth(images: Tensor) -> Tensor:
        return F.conv2d(images, kernel, padding=1, groups=6)

    small, large = maps(2, *size, 6), maps(2, 2 * size[0], 2 * size[1], 6)
    doubled = F.interpolate(small.permute(0, 3, 1, 2), scale_factor=2, mode="nearest")
    for layer, values, expected in (
        (Resample(*widths, up=True), small, smooth(doubled)),
        (Resample(*widths, up=False), large, F.avg_pool2d(smooth(large.permute(0, 3, 1, 2)), 2)),
    ):
        layer.double()
        torch.testing.assert_close(layer(values), layer.change(expected.permute(0, 2, 3, 1)))
        assert not layer.state_dict().keys() - {"change.weight"}, "what is fixed is in no checkpoint"
