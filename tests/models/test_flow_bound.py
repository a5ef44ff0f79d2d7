"""A flow's bound of the likelihood, and its way back from an image."""

import math

import pytest
import torch
from torch import Tensor

from genmodel.models.abilities import Likelihood, Weighted
from genmodel.models.flow import Flow
from genmodel.models.parts.flow.ode import integrate
from genmodel.pixels import to_model
from tests.models.flows import awake, levels, model_of, normals, silent


def exact_density(model: Flow, maps: Tensor) -> tuple[Tensor, Tensor]:
    """-log p of one image [1, C, H, W] by the whole trace of the velocity's Jacobian, and by the determinant of the
    Jacobian of all steps together: nats."""
    one = torch.ones((), dtype=maps.dtype)

    def velocity(values: Tensor, time: float) -> Tensor:
        return model.velocity(values.view_as(maps), time * one[None], None).flatten()

    def field(state: Tensor, time: float) -> Tensor:
        jacobian = torch.autograd.functional.jacobian(lambda values: velocity(values, time), state[:-1])
        return torch.cat([velocity(state[:-1], time), jacobian.trace()[None]])  # type: ignore[attr-defined]

    ended = integrate(field, torch.cat([maps.flatten(), 0 * one[None]]), model._grid_back(), "heun")
    normal = 0.5 * (ended[:-1].square() + math.log(2 * math.pi)).sum()
    steps = torch.autograd.functional.jacobian(
        lambda values: integrate(velocity, values, model._grid_back(), "heun"), maps.flatten()
    )
    return normal - ended[-1], normal - steps.slogdet().logabsdet  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_estimated_density_is_that_of_the_whole_trace() -> None:
    """Without bias: its mean over many probes lies within its standard error, and the scatter is not nothing."""
    model = awake(model_of(likelihood_steps=3)).double()
    maps = 0.5 * normals(1, model).view(1, 1, 8, 8)
    exact, _ = exact_density(model, maps)
    rng = torch.Generator().manual_seed(0)
    probes = torch.randint(2, (3000, 1, 8, 8), generator=rng).double() * 2 - 1
    found = model.negative_log_density(maps.expand(3000, -1, -1, -1), None, probes)
    error = float(found.std()) / 3000**0.5
    assert 0.005 < error < 0.2
    assert float(found.mean()) == pytest.approx(float(exact), abs=4 * error)


@pytest.mark.slow
def test_the_density_comes_nearer_to_that_of_the_steps_themselves() -> None:
    """The determinant of the Jacobian of all steps together is exact for the map that they make; the integral of the
    trace differs from it by the solver's error, which falls with the square of the step."""
    apart = []
    for steps in (8, 16, 32):
        model = awake(model_of(likelihood_steps=steps)).double()
        by_trace, by_determinant = exact_density(model, 0.5 * normals(1, model).view(1, 1, 8, 8))
        apart.append(abs(float(by_trace - by_determinant)))
    assert apart[0] / apart[1] > 2.5 and apart[1] / apart[2] > 2.5 and apart[2] < 0.01 * 64


@pytest.mark.slow
def test_the_bound_is_above_the_probability_of_the_levels_and_close_to_it() -> None:
    """Of independent values N(0, s^2): a level's probability is known, and the divergence needs no estimate. This holds
    the constant of dequantised levels."""
    model = silent(data_deviation=0.5, likelihood_steps=64)
    images = levels(400, model) // 4 + 96  # within 2 deviations: at the borders half a cell lies beyond the levels
    values = to_model(images).double()
    normal = torch.distributions.Normal(0.0, 0.5)
    masses = normal.cdf(values + 1 / 255) - normal.cdf(values - 1 / 255)
    exact = -masses.log2().flatten(1).mean(1)
    found = model.bound(images, torch.full((400,), -1), torch.Generator().manual_seed(0))
    assert float(found.mean()) == pytest.approx(float(exact.mean()), abs=2e-3)
    assert found.shape == (400,)


@pytest.mark.slow
def test_the_bound_is_told_as_a_bound_with_its_scatter() -> None:
    model = awake(model_of(3, likelihood_steps=3, guidance=2.0))
    assert not isinstance(model, Likelihood | Weighted)
    images, labels = levels(4, model), torch.tensor([0, 1, 2, -1])

    def bounds(seed: int) -> Tensor:
        return model.bound(images, labels, torch.Generator().manual_seed(seed))

    with torch.inference_mode():  # as figures are measured
        inside = bounds(0)
    assert torch.equal(bounds(0), inside) and not torch.equal(bounds(1), inside)
    mean, error = model.scattered_bounds(images, labels, torch.Generator().manual_seed(5), 64)
    spread = torch.stack([bounds(seed) for seed in range(64)]).std(0)
    torch.testing.assert_close(error * 8, spread, rtol=0.5, atol=0)
    assert ((mean - torch.stack([bounds(seed) for seed in range(64)]).mean(0)).abs() < 6 * error).all()
    other = model.bound(images, torch.tensor([1, 1, 1, 1]), torch.Generator().manual_seed(0))
    assert ((other - inside).abs() > 1e-4).tolist() == [True, False, True, True], "of the class"


def test_guidance_changes_samples_and_no_bound() -> None:
    plain, guided = (awake(model_of(3, likelihood_steps=3, guidance=weight)) for weight in (1.0, 3.0))
    images, labels = levels(3, plain), torch.tensor([0, 1, 2])
    one, other = (model.bound(images, labels, torch.Generator().manual_seed(0)) for model in (plain, guided))
    assert torch.equal(one, other)
    noise = normals(3, plain)
    assert not torch.equal(plain.sample(noise, labels), guided.sample(noise, labels))


@pytest.mark.slow
def test_the_way_back_and_forth_comes_nearer_with_more_steps() -> None:
    errors = []
    for steps in (4, 8, 16):
        model = awake(model_of(2, steps=steps, guidance=1.5, solver="heun"))
        images, labels = levels(3, model) // 2 + 64, torch.tensor([0, 1, -1])
        noise = model.encode(images, labels)
        assert noise.shape == (3, 64)
        rebuilt = model.reconstruct(images, labels)
        torch.testing.assert_close(rebuilt, model.sample(noise, torch.tensor([0, 1, 2])), rtol=1e-4, atol=1e-5)
        errors.append(float((rebuilt - to_model(images)).square().mean().sqrt()))
    assert errors[0] > 2 * errors[1] > 4 * errors[2] and errors[2] < 0.02
