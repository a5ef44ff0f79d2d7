"""The VAE's settings: its likelihood, its floor of the rate, its warm-up, its residual blocks, its classes."""

import itertools
import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genmodel.errors import ConfigError
from genmodel.models.contract import Batch, Noise, Step, build_model
from genmodel.models.noise import Space
from genmodel.models.parts.labels import LabelEmbedding
from genmodel.models.parts.latent.decoded import decoded_nll
from genmodel.models.vae import VAE, Residual
from genmodel.params import run_config
from genmodel.pixels import to_model
from genmodel.sampling.draw import sample_classes
from genmodel.settings.schedule import value_at

SMALL = {"base_channels": 4, "latent_dim": 6}
ALL = {"likelihood": "mixture", "components": 2, "residual_blocks": 1, "conditional": True, "free_bits": 0.05}
UNKNOWN = partial(torch.full, fill_value=-1)


def model_of(network: dict[str, Any] | None = None, classes: int = 3, size: object = 8, channels: int = 3) -> VAE:
    config = run_config({"family": "vae", "image_size": size, "network": SMALL | (network or {})}, "toy")
    model = build_model(config, classes, channels)
    assert isinstance(model, VAE)
    return model


def images(n: int, channels: int = 3) -> Tensor:
    """uint8 [N, 8, 8, C]."""
    return torch.randint(0, 256, (n, 8, 8, channels), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


class Widened(Noise):
    """The same numbers in float64."""

    def of(self, space: Space, count: int) -> Tensor:
        return super().of(space, count).double()


def step_of(n: int, beta: float = 1.0, dtype: torch.dtype = torch.float32) -> Step:
    rng = torch.Generator().manual_seed(0)
    noise = Widened(rng) if dtype == torch.float64 else Noise(rng)
    labels = torch.arange(n) % 4 - 1
    return Step(Batch(to_model(images(n)).to(dtype), labels), noise, {"beta": torch.tensor(beta, dtype=dtype)})


@pytest.mark.parametrize("likelihood", ["logistic", "mixture"])
def test_the_probabilities_of_the_256_levels_sum_to_one(likelihood: str) -> None:
    """Of more channels: tests/models/parts/test_logistics.py."""
    model = model_of({"likelihood": likelihood, "components": 3}, channels=1).double()
    maps = 3 * model.decoder(torch.randn(5, 6, dtype=torch.float64))
    every = (torch.arange(256, dtype=torch.float64) / 127.5 - 1).view(256, 1, 1, 1)
    for one in maps[:, :, :1, :1].split(1):
        chances = (-decoded_nll(every, one.expand(256, -1, -1, -1), model.log_scale)).exp()
        assert chances.sum().item() == pytest.approx(1, abs=1e-9)


def test_without_its_settings_it_has_no_part_of_them() -> None:
    model = model_of()
    assert model.classes == 0 and model.log_scale is not None
    assert not any(isinstance(module, Residual | LabelEmbedding) for module in model.modules())
    wanted = model_of(ALL)
    assert wanted.classes == 3 and wanted.log_scale is None
    assert sum(isinstance(module, Residual) for module in wanted.modules()) == 2


def test_residual_blocks_are_at_every_size_and_begin_as_the_identity() -> None:
    model = model_of({"residual_blocks": 2}, size="32x64")
    for network, widths in ((model.encoder, [4, 4, 8, 8, 16, 16]), (model.decoder, [16, 16, 8, 8, 4, 4])):
        blocks = [module for module in network.modules() if isinstance(module, Residual)]
        assert [block.first.in_channels for block in blocks] == widths
        for block, width in zip(blocks, widths, strict=True):
            maps = torch.randn(2, width, 4, 4)
            assert torch.equal(block(maps), maps)


@pytest.mark.parametrize("settings", [{}, ALL])
def test_the_gradient_is_that_of_float64(settings: dict[str, Any]) -> None:
    found = []
    for dtype in (torch.float64, torch.float32):
        model = model_of(settings).to(dtype)
        with torch.no_grad():
            for value in model.parameters():
                value.add_(0.05 * torch.randn(value.shape, generator=torch.Generator().manual_seed(1)).to(dtype))
        if dtype == torch.float32:
            model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        loss, _ = model._loss(step_of(8, dtype=dtype))
        slopes = torch.autograd.grad(loss, list(model.parameters()))
        found.append(torch.cat([each.flatten().double() for each in slopes]))
    assert (found[1] - found[0]).norm() / found[0].norm() < 1e-4


def test_free_bits_charge_no_less_than_the_floor_of_each_number() -> None:
    """A posterior that begins near the prior costs nearly nothing: the floor of all is what is charged."""
    (loss, told), (free, same) = (model_of({"free_bits": floor})._loss(step_of(8)) for floor in (0.0, 2.0))
    dimensions = 8 * 8 * 3 * math.log(2)
    assert told["loss/rate"] < 0.01 and torch.equal(told["loss/negative_elbo"], same["loss/negative_elbo"])
    torch.testing.assert_close(loss, told["loss/negative_elbo"])
    torch.testing.assert_close(free, told["loss/distortion"] + 6 * 2.0 / dimensions)


def test_the_rate_may_be_warmed_up() -> None:
    model = model_of({"beta": {"start": 0.0, "end": 2.0, "over": 100, "shape": "linear"}})
    assert [value_at(model.knobs()["beta"], seen) for seen in (0, 50, 200)] == [0.0, 1.0, 2.0]
    nn.init.normal_(model.encoder.head.weight)
    for beta in (0.0, 0.5, 2.0):
        loss, told = model._loss(step_of(8, beta))
        assert told["loss/rate"] > 0.1
        torch.testing.assert_close(loss, told["loss/distortion"] + beta * told["loss/rate"])


@pytest.mark.parametrize("settings", [{}, ALL])
def test_a_bound_is_of_the_class_that_is_known_and_samples_of_the_one_asked_for(settings: dict[str, Any]) -> None:
    model = model_of(settings).eval()
    nn.init.normal_(model.encoder.head.weight)
    with torch.no_grad():
        bits = [
            model.bound(images(4), torch.full((4,), label), torch.Generator().manual_seed(0)) for label in (-1, 0, 2)
        ]
        weighted = model.weighted_bound(images(4), torch.full((4,), 2), torch.Generator().manual_seed(0), 50)
        same = [torch.equal(*pair) for pair in itertools.pairwise(bits)]
        assert same == [not settings] * 2
        assert weighted.mean() < bits[2].mean()
        if model.classes:
            drawn = sample_classes(model, 4, 0, [0, 1, 2]).view(3, 4, -1)
            assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
            mu, _ = model.encoder(to_model(images(2)), torch.tensor([1, -1]))
            assert torch.equal(model.encode(images(2), torch.tensor([1, -1])), mu)


@pytest.mark.parametrize("settings", [{}, ALL])
def test_one_samples_weight_is_that_of_the_densities(settings: dict[str, Any]) -> None:
    model, labels = model_of(settings).eval(), torch.tensor([0, 2, 1, -1])
    nn.init.normal_(model.encoder.head.weight)
    inputs = to_model(images(4))
    with torch.no_grad():
        mu, logvar = model.encoder(inputs, labels)
        posterior, prior = torch.distributions.Normal(mu, (0.5 * logvar).exp()), torch.distributions.Normal(0.0, 1.0)
        z = mu + (0.5 * logvar).exp() * torch.randn(mu.shape, generator=torch.Generator().manual_seed(0))
        nats = decoded_nll(inputs, model.decoder(z, labels), model.log_scale)
        nats = nats + (posterior.log_prob(z) - prior.log_prob(z)).sum(1)
        found = model.weighted_bound(images(4), labels, torch.Generator().manual_seed(0), 1)
    torch.testing.assert_close(found.float(), nats / (8 * 8 * 3 * math.log(2)), rtol=1e-5, atol=1e-5)


def test_an_unknown_class_is_the_mean_of_all() -> None:
    table = LabelEmbedding(3, 5)
    torch.testing.assert_close(table(torch.tensor([-1]))[0], table(torch.arange(3)).mean(0))


def test_conditional_without_classes_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^vae: the images have no classes; set network.conditional to false$"):
        model_of({"conditional": True}, classes=0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_samples_of_a_mixture_are_its_means(channels: int) -> None:
    model = model_of({"likelihood": "mixture"}, channels=channels).eval()
    drawn = model.sample(torch.randn(5, 6))
    assert drawn.shape == (5, channels, 8, 8) and drawn.abs().max() <= 1 and drawn.std() > 0.001
