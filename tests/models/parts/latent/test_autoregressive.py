"""Steps of inverse autoregressive flow: who depends on whom, and the determinant."""

import pytest
import torch
from torch import Tensor

from genmodel.models.parts.latent.autoregressive import CausalConvolution, InverseAutoregressive
from genmodel.models.parts.weight_norm import WeightNorm, fitting

SHAPES = [(3, 5, 2, 3), (4, 2, 3, 3), (1, 4, 2, 4)]  # channels of z, of the network; height, width


def step_of(channels: int, hidden: int, reverse: bool) -> InverseAutoregressive:
    """In float64, with weights of which none is 0 or too small to be seen."""
    step, rng = InverseAutoregressive(channels, hidden, reverse).double(), torch.Generator().manual_seed(0)
    for module in step.modules():
        if isinstance(module, WeightNorm):
            module.initialise(rng)
            torch.nn.init.uniform_(module.scale, 2, 4, generator=rng)
            torch.nn.init.normal_(module.bias, generator=rng)
    return step


def given(channels: int, hidden: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    shapes = ((channels, height, width), (hidden, height, width))
    z, context = (torch.randn(*shape, generator=rng, dtype=torch.float64) for shape in shapes)
    return z, context


def in_order(values: Tensor) -> Tensor:
    """[C, H, W] -> as a vector: places row by row, at each its channels."""
    return values.permute(1, 2, 0).flatten()


def jacobian(step: InverseAutoregressive, z: Tensor, context: Tensor, output: int = 0) -> Tensor:
    """Of an output (z' or the narrowing) by z, both in order."""
    channels, height, width = z.shape

    def made(ordered: Tensor) -> Tensor:
        maps = ordered.view(height, width, channels).permute(2, 0, 1)
        return in_order(step(maps[None], context[None])[output][0])

    found: Tensor = torch.autograd.functional.jacobian(made, in_order(z))
    return found


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("channels", "hidden", "height", "width"), SHAPES)
def test_the_log_determinant_is_autograds(channels: int, hidden: int, height: int, width: int, reverse: bool) -> None:
    step, (z, context) = step_of(channels, hidden, reverse), given(channels, hidden, height, width)
    _, narrowed = step(z[None], context[None])
    assert narrowed.abs().max() > 0.1
    sign, logarithm = torch.linalg.slogdet(jacobian(step, z, context))
    assert sign == 1
    assert -narrowed.sum().item() == pytest.approx(logarithm.item(), abs=1e-10)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("channels", "hidden", "height", "width"), SHAPES)
def test_values_depend_on_earlier_ones_alone_and_on_all_that_are_near(
    channels: int, hidden: int, height: int, width: int, reverse: bool
) -> None:
    step, (z, context) = step_of(channels, hidden, reverse), given(channels, hidden, height, width)
    of_z, of_narrowing = (jacobian(step, z, context, output) for output in (0, 1))
    if reverse:
        of_z, of_narrowing = of_z.flip(0, 1), of_narrowing.flip(0, 1)
    assert not of_z.triu(1).any(), "no value is moved by a later one"
    assert not of_narrowing.triu(0).any(), "nor scaled by itself"
    seen = (of_narrowing != 0).view(height, width, channels, height, width, channels)
    if hidden < channels:
        return  # a narrower network keeps some channels of a place apart no more
    for row in range(1, height):
        for column in range(1, width - 1):
            here = seen[row, column]
            assert here[:, row - 1, column - 1 : column + 2].all() and here[:, row, column - 1].all()
            assert torch.equal(here[:, row, column], torch.ones(channels, channels).tril(-1).bool())


def test_a_convolution_sees_what_its_degrees_allow() -> None:
    """Of the place itself up to its own degree or below it; of the places before it all, of the later ones none."""
    degrees = torch.arange(3)
    for own in (True, False):
        layer = CausalConvolution(degrees, degrees, own=own, reverse=False).double()
        z = torch.randn(1, 3, 3, 3, dtype=torch.float64, requires_grad=True)
        for channel in range(3):
            (slope,) = torch.autograd.grad(layer(z)[0, channel, 1, 1], z)
            seen = slope[0] != 0
            assert seen[:, 0].all() and seen[:, 1, 0].all()
            assert not seen[:, 1, 2].any() and not seen[:, 2].any()
            assert seen[:, 1, 1].tolist() == [value < channel + own for value in range(3)]


def test_its_weights_are_normalised_after_the_mask() -> None:
    layer = CausalConvolution(torch.arange(3), torch.arange(4), own=False, reverse=False)
    with torch.no_grad():
        layer.scale.fill_(2.0)
        impulses = torch.eye(27).view(27, 3, 3, 3)  # one value of the window each
        seen = (layer(impulses)[:, :, 1, 1] - layer.bias).square().sum(0)
    torch.testing.assert_close(seen, torch.full((4,), 4.0))


def test_a_step_begins_near_the_identity_and_a_fit_gives_unit_variance() -> None:
    step, rng = InverseAutoregressive(4, 16, False), torch.Generator().manual_seed(0)
    for module in step.modules():
        if isinstance(module, WeightNorm):
            module.initialise(rng)
    z, context = 5 + 3 * torch.randn(50, 4, 6, 6), torch.randn(50, 16, 6, 6)
    with fitting(step):
        step(z, context)
    outputs: list[Tensor] = []
    for layer in (step.first, step.second, step.last):
        layer.register_forward_hook(lambda _, __, output: outputs.append(output))
    moved, narrowed = step(z, context)
    for output in outputs:
        deviation, mean = torch.std_mean(output, (0, 2, 3), correction=0)
        assert mean.abs().max() < 1e-4 and (deviation - 1).abs().max() < 1e-3
    assert narrowed.std().item() == pytest.approx(0.1, rel=0.01)
    assert (moved - z).square().mean().sqrt() < 0.3 * z.std()
