from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from genmodel.models.parts import convolution
from genmodel.models.parts.convolution import Down, Up, weight_gradient
from genmodel.models.parts.losses import frozen

COUNTS = st.integers(1, 5)
LAYERS = (Down, Up)


@settings(deadline=None)
@given(n=COUNTS, large=COUNTS, small=COUNTS, height=COUNTS, width=COUNTS, seed=st.integers(0, 99))
def test_the_product_is_the_gradient_of_both_layers_weights(
    n: int, large: int, small: int, height: int, width: int, seed: int
) -> None:
    rng = torch.Generator().manual_seed(seed)
    wide = torch.randn(n, large, 2 * height, 2 * width, dtype=torch.float64, generator=rng)
    narrow = torch.randn(n, small, height, width, dtype=torch.float64, generator=rng)
    product = weight_gradient(wide, narrow)
    for layer, images, slope in ((Down(large, small), wide, narrow), (Up(small, large), narrow, wide)):
        layer.double()(images).backward(slope)
        torch.testing.assert_close(product, layer.weight.grad)


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """A CPU with bf16 and no AMX, whatever this one is; the shapes of the products that were made."""
    made: list[tuple[int, ...]] = []

    def seen(large: Tensor, small: Tensor) -> Tensor:
        made.append(tuple(small.shape))
        return weight_gradient(large, small)

    monkeypatch.setattr(convolution, "weight_gradient", seen)
    monkeypatch.setattr(convolution, "_bf16_without_amx", lambda: True)
    return made


@pytest.mark.parametrize("layer", LAYERS)
def test_in_bf16_all_gradients_are_near_those_of_float64(layer: Callable, products: list) -> None:
    torch.manual_seed(0)
    fast, images = layer(6, 5), torch.randn(4, 6, 8, 8)
    exact, slope = layer(6, 5).double(), None
    exact.load_state_dict(fast.state_dict())
    gradients = []
    for network, autocast in ((exact, False), (fast, True)):
        inputs = images.to(network.weight.dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            made = network(inputs)
        slope = torch.randn_like(made) if slope is None else slope
        made.backward(slope.to(made.dtype))
        gradients.append([inputs.grad, network.weight.grad, network.bias.grad])
    assert len(products) == 1
    for expected, found in zip(*gradients, strict=True):
        assert found.dtype == torch.float32
        assert (found - expected).norm() < 2**-7 * expected.norm()  # bf16 rounds to 2**-9


@pytest.mark.parametrize("up", [False, True])
def test_it_can_be_differentiated_twice(up: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    images, weight = (torch.randn(2, 2, 4, 4, dtype=torch.float64, generator=rng).requires_grad_() for _ in range(2))
    work = lambda *inputs: convolution._Convolution.apply(*inputs, up)  # noqa: E731
    assert torch.autograd.gradcheck(work, (images, weight))
    assert torch.autograd.gradgradcheck(work, (images, weight))


@pytest.mark.parametrize("layer", LAYERS)
def test_only_short_rows_in_bf16_are_worked_out_by_a_product(layer: Callable, products: list) -> None:
    def passes(side: int, autocast: bool = True) -> int:
        products.clear()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            layer(2, 2)(torch.randn(1, 2, side, side)).sum().backward()
        return len(products)

    longest = 16 if layer is Down else 8
    assert [passes(longest), passes(2 * longest), passes(longest, autocast=False)] == [1, 0, 0]


def test_a_cpu_with_amx_keeps_to_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    has = {"avx512_bf16": True, "amx_bf16": False}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    answers = []
    for without in ({}, {"amx_bf16": True}, {"avx512_bf16": False}):
        has |= without
        convolution._bf16_without_amx.cache_clear()
        answers.append(convolution._bf16_without_amx())
    convolution._bf16_without_amx.cache_clear()
    assert answers == [True, False, False]


def test_a_frozen_network_passes_gradients_on_and_takes_none(products: list) -> None:
    network, images = Down(2, 2), torch.randn(1, 2, 4, 4, requires_grad=True)
    network.bias.requires_grad_(False)
    with torch.autocast("cpu", torch.bfloat16), frozen(network):
        made = network(images).sum()
    made.backward()
    assert images.grad is not None and images.grad.abs().sum() > 0
    assert network.weight.grad is None and not products
    assert (network.weight.requires_grad, network.bias.requires_grad) == (True, False)
