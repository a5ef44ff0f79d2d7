"""The ladder of latent maps: its bounds, its gradients, its beginning, its settings, its classes."""

import math
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.models.abilities import Bounds, Reconstructs, Weighted
from genmodel.models.contract import Adamax, Batch, Noise, Step, build_model
from genmodel.models.iaf_vae import IAFVAE
from genmodel.models.noise import Space
from genmodel.models.parts.latent.ladder import Layer
from genmodel.models.parts.losses import discretised_logistic_nll
from genmodel.models.parts.weight_norm import WeightNorm
from genmodel.params import run_config
from genmodel.pixels import to_model
from genmodel.sampling.draw import sample, sample_classes
from genmodel.sampling.load import load_model
from genmodel.settings.schedule import value_at
from genmodel.showing import display
from genmodel.showing.display import train
from genmodel.training.identify import identify
from tests.killing import killed_after

SMALL = {"base_channels": 6, "latent_dim": 3, "blocks": 2}
Network = dict[str, Any]


def model_of(network: Network | None = None, classes: int = 3, size: object = 16, channels: int = 3) -> IAFVAE:
    config = run_config({"family": "iaf_vae", "image_size": size, "network": SMALL | (network or {})}, "toy")
    model = build_model(config, classes, channels)
    assert isinstance(model, IAFVAE)
    return model


def levels(n: int, size: int = 16, channels: int = 3, seed: int = 0) -> Tensor:
    """Smooth random images, uint8 [N, H, W, C]."""
    rng = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, channels, 4, 4, generator=rng)
    smooth = F.interpolate(coarse, size=(size, size), mode="bilinear")
    return (127.5 + 60 * smooth).clamp(0, 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def begun(network: Network | None = None, **like: Any) -> IAFVAE:
    model = model_of(network, **like)
    images = to_model(levels(64, channels=model.spec.channels, size=model.image_size.height))
    with torch.no_grad():
        model.begin(Batch(images, torch.arange(64) % 3))
    return model


UNKNOWN = partial(torch.full, fill_value=-1)


class Widened(Noise):
    """The same numbers in float64."""

    def of(self, space: Space, count: int) -> Tensor:
        return super().of(space, count).double()


def gaussian(value: Tensor, mean: Tensor, log_deviation: Tensor) -> Tensor:
    """log-density of each value."""
    return torch.distributions.Normal(mean, log_deviation.exp()).log_prob(value)


def normalised(layer: WeightNorm, maps: Tensor) -> Tensor:
    """By torch's own formula for the weights."""
    v = layer.layer.weight
    weight = torch._weight_norm(v, layer.scale.view(-1, 1, 1, 1), 0)
    assert isinstance(layer.layer, torch.nn.Conv2d)
    return F.conv2d(maps, weight, layer.layer.bias, layer.layer.stride, layer.layer.padding)


def loss_anew(model: IAFVAE, images: Tensor, noise: Tensor, free: float) -> Tensor:
    """Written again from the paper for one level: densities of z in place of their difference, autograd's determinant
    of the steps being tested elsewhere. Bits/dim, a mean."""
    config = model.config
    wide, z_maps, context = config.base_channels, config.latent_dim, config.base_channels if config.iaf_steps else 0
    below = normalised(model.encoder, images)
    found = []
    for layer in model.layers:
        made = normalised(layer.look, F.elu(below))
        found.append((made[:, :z_maps], made[:, z_maps : 2 * z_maps], made[:, 2 * z_maps : 2 * z_maps + context]))
        if layer.carry is not None:
            below = below + 0.1 * normalised(layer.carry, F.elu(made[:, -wide:]))
    maps = model.top.expand(len(images), *model.top.shape)
    drawn, rates = model.space.split(noise), []
    for layer, (mean, deviation, its_context), eps in zip(reversed(model.layers), reversed(found), drawn, strict=True):
        made = normalised(layer.tell, F.elu(maps))
        prior_mean, prior_deviation, add_mean, add_deviation = made[:, : 4 * z_maps].split(z_maps, dim=1)
        inner = made[:, 4 * z_maps + context :]
        own_mean, own_deviation = mean + add_mean, 0.1 * (deviation + add_deviation)
        z = own_mean + own_deviation.exp() * eps
        log_q = gaussian(z, own_mean, own_deviation)
        for step in layer.steps:
            z, narrowed = step(z, its_context + made[:, 4 * z_maps : 4 * z_maps + context])
            log_q = log_q + narrowed
        rates.append((log_q - gaussian(z, prior_mean, 0.1 * prior_deviation)).sum((2, 3)).mean(0))
        maps = maps + 0.1 * normalised(layer.join, F.elu(torch.cat([z, inner], dim=1)))
    mean = F.pixel_shuffle(normalised(model.decoder, F.elu(maps)), 2)
    assert model.log_scale is not None
    nll = discretised_logistic_nll(images, mean, model.log_scale).mean()
    charged = sum(rate if rate > free else torch.full_like(rate, free) for rate in torch.cat(rates))
    return (nll + charged) / (images[0].numel() * math.log(2))


def gradients(loss: Tensor, model: IAFVAE) -> Tensor:
    found = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([each.flatten().double() for each in found])


@pytest.mark.parametrize("free", [0.0, 100.0])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_loss_has_the_gradient_of_eager_float64(steps: int, free: float) -> None:
    network = {"iaf_steps": steps, "levels": 1, "free_bits": free}
    model = begun(network).double()
    images = to_model(levels(5)).double()

    def step_of(dtype: torch.dtype) -> Step:
        rng = torch.Generator().manual_seed(3)
        noise = Widened(rng) if dtype == torch.float64 else Noise(rng)
        return Step(Batch(images.to(dtype), UNKNOWN((5,))), noise, {"beta": torch.ones((), dtype=dtype)})

    noise = Widened(torch.Generator().manual_seed(3)).of(model.space, 5)
    expected = loss_anew(model, images, noise, free)
    found, told = model._loss(step_of(torch.float64))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    slopes = gradients(expected, model)
    torch.testing.assert_close(gradients(found, model), slopes, rtol=1e-8, atol=1e-11)
    assert (found > told["loss/negative_elbo"] + 1e-3) == (free > 0), (
        "some rates are below a floor of 100 nats, some above"
    )

    single = model.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    error = gradients(single._loss(step_of(torch.float32))[0], single) - slopes
    assert error.norm() / slopes.norm() < 1e-4


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_weighted_bounds_fall_with_the_samples_and_start_at_the_one_sample_bound(steps: int) -> None:
    model = begun({"iaf_steps": steps}).eval()
    assert isinstance(model, Bounds) and isinstance(model, Weighted)
    images, labels = levels(30, seed=1), UNKNOWN((30,))
    with torch.no_grad():
        bits = [
            float(model.weighted_bound(images, labels, torch.Generator().manual_seed(1), samples).mean())
            for samples in (1, 4, 32)
        ]
        one = float(model.bound(images, labels, torch.Generator().manual_seed(1)).mean())
    assert one == pytest.approx(bits[0], rel=1e-6)
    assert bits[0] > bits[1] > bits[2]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_the_weighted_bound_reaches_the_likelihood_itself(steps: int) -> None:
    """The mean of p(x|z) over the prior needs no posterior: with flat pixels few draws do."""
    model = begun({"iaf_steps": steps, "latent_dim": 2, "blocks": 1, "levels": 1}, size=8).eval()
    nats = 8 * 8 * 3 * math.log(2)
    with torch.no_grad():
        assert model.log_scale is not None
        model.log_scale.fill_(0.5)
        for layer in model.layers:
            layer.look.scale.mul_(0.3)  # type: ignore[union-attr, operator]
            layer.tell.scale.mul_(0.3)  # type: ignore[union-attr, operator]
        noise = torch.randn(20_000, model.space.width, generator=torch.Generator().manual_seed(0))
        decoded, _, _ = model._down(model.space.split(noise), None, [None])
        for one in levels(3, size=8, seed=1).split(1):
            nll = discretised_logistic_nll(to_model(one), decoded, model.log_scale).double()
            exact = -(torch.logsumexp(-nll, 0) - math.log(len(nll))) / nats
            copies, rng = one.expand(1000, -1, -1, -1), torch.Generator().manual_seed(0)
            bits = model.weighted_bound(copies, UNKNOWN((1000,)), rng, 6)  # each from draws of its own
            found = -(torch.logsumexp(-nats * bits, 0) - math.log(len(bits))) / nats
            assert found.item() == pytest.approx(exact.item(), abs=8e-3)
            one_sample = model.bound(copies, UNKNOWN((1000,)), rng).mean()
            assert one_sample > exact + 0.03, "or the agreement would say nothing"


def test_bounds_are_what_training_measures() -> None:
    model = begun({"free_bits": 0.0}).eval()
    images, labels = levels(20, seed=1), UNKNOWN((20,))
    step = Step(Batch(to_model(images), labels), Noise(torch.Generator().manual_seed(1)), {"beta": torch.tensor(1.0)})
    loss, told = model._loss(step)
    bound = model.bound(images, labels, torch.Generator().manual_seed(1)).mean()
    torch.testing.assert_close(loss.double(), bound, rtol=1e-5, atol=0)
    torch.testing.assert_close(told["loss/negative_elbo"], told["loss/distortion"] + told["loss/rate"])


def test_beta_weighs_the_rate_and_may_be_warmed_up() -> None:
    warm = {"start": 0.0, "end": 1.0, "over": 100, "shape": "linear"}
    model = begun({"beta": warm, "free_bits": 0.0})
    assert [value_at(model.knobs()["beta"], seen) for seen in (0, 50, 100)] == [0.0, 0.5, 1.0]
    batch = Batch(to_model(levels(8)), UNKNOWN((8,)))
    for beta in (0.0, 0.5, 1.0):
        loss, told = model._loss(Step(batch, Noise(torch.Generator().manual_seed(0)), {"beta": torch.tensor(beta)}))
        torch.testing.assert_close(loss, told["loss/distortion"] + beta * told["loss/rate"])


def test_it_begins_with_unit_variance_everywhere() -> None:
    """On the images that it was fitted to, with the noise that it was fitted with."""
    model, images = begun({"conditional": True}), to_model(levels(64))
    told: dict[str, tuple[float, float]] = {}

    def listen(name: str, _: object, __: object, output: Tensor) -> None:
        deviation, mean = torch.std_mean(output, (0, 2, 3), correction=0)
        told[name] = (deviation - 1).abs().max().item(), mean.abs().max().item()

    layers = {name: module for name, module in model.named_modules() if isinstance(module, WeightNorm)}
    for name, module in layers.items():
        module.register_forward_hook(partial(listen, name))
    step = Step(Batch(images, torch.arange(64) % 3), Noise(torch.Generator().manual_seed(0)), {"beta": torch.ones(())})
    model._loss(step)
    assert told.keys() == layers.keys()
    assert all(deviation < 2e-3 and mean < 1e-3 for deviation, mean in told.values()), told


def test_it_is_a_ladder_of_the_settings() -> None:
    model = model_of({"levels": 2, "blocks": 3, "latent_dim": 4}, size="32x16")
    assert [part.shape for part in model.space.parts] == [(4, 4, 8)] * 3 + [(4, 8, 16)] * 3, "the top first"
    layers = [layer for layer in model.layers if isinstance(layer, Layer)]
    assert [layer.halves for layer in layers] == [False] * 3 + [True] + [False] * 2
    assert [layer.carry is None for layer in layers] == [False] * 5 + [True]
    small = model_of({"levels": 5}, size=28, channels=1)
    assert {part.shape[1] for part in small.space.parts} == {14, 7}, "as often as the image halves"
    (player,) = model.players()
    assert player.optimizer == Adamax(lr=2e-3)


def test_steps_go_both_ways() -> None:
    layers = [layer for layer in model_of({"iaf_steps": 2}).layers if isinstance(layer, Layer)]
    assert [[step.first.reverse for step in layer.steps] for layer in layers] == [[False, True]] * len(layers)  # type: ignore[union-attr]
    assert not any(len(layer.steps) for layer in model_of({"iaf_steps": 0}).layers)  # type: ignore[union-attr]


@pytest.mark.parametrize(("channels", "likelihood"), [(1, "mixture"), (3, "logistic"), (4, "mixture")])
def test_reconstructions_are_what_the_posteriors_means_decode_to(channels: int, likelihood: str) -> None:
    """The posterior's own way down, and the prior's from the noise that it was turned into."""
    model = begun({"likelihood": likelihood, "components": 2}, channels=channels).eval()
    assert isinstance(model, Reconstructs)
    images, labels = levels(4, channels=channels, seed=2), UNKNOWN((4,))
    with torch.no_grad():
        noise = model.encode(images, labels)
        assert noise.shape == (4, model.space.width) and noise.std() > 0.1
        zeros = model.space.split(torch.zeros(4, model.space.width))
        decoded, _, _ = model._down(zeros, labels, model._up(to_model(images)))
        again, _, _ = model._down(model.space.split(noise), labels, [None] * len(model.layers))
        torch.testing.assert_close(again, decoded, rtol=1e-4, atol=1e-4)
        rebuilt = model.reconstruct(images, labels)
    assert rebuilt.shape == (4, channels, 16, 16) and rebuilt.abs().max() <= 1


def test_a_class_that_is_asked_for_decides_the_image() -> None:
    model = begun({"conditional": True}).eval()
    assert model.classes == 3
    with torch.no_grad():
        drawn = sample_classes(model, 4, 0, [0, 1, 2]).view(3, 4, -1)
        assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
        images = levels(3)
        by_label = [
            model.bound(images, torch.full((3,), label), torch.Generator().manual_seed(0)) for label in (-1, 0, 1)
        ]
    assert len({tuple(bits.tolist()) for bits in by_label}) == 3
    assert model_of().classes == 0


def test_conditional_without_classes_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^iaf_vae: the images have no classes; set network.conditional to false$"):
        model_of({"conditional": True}, classes=0)


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(
    block: Block, in_child: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(display, "sample_moments", lambda images, per_step: {0, images})
    network = SMALL | {"conditional": True, "beta": {"start": 0.0, "end": 1.0, "over": 200}, "likelihood": "mixture"}
    training = {"images": 320, "batch_size": 8, "threads": 1, "log_every": 56, "checkpoint_every": 80, "labelled": 5}
    values = {"family": "iaf_vae", "image_size": 8, "network": network, "training": training}
    who = identify("it", run_config(values, "it"), block)
    train(who, block, tmp_path / "whole", tmp_path / "whole-runs")
    again = partial(train, who, block, tmp_path / "out", tmp_path / "runs")
    for images in (100, 230):
        assert in_child(partial(killed_after, images, again)) == -signal.SIGKILL
    again()
    files = [path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    assert all((tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes() for name in files)
    model, _ = load_model(tmp_path / "out")
    assert torch.equal(sample(model, 5, seed=1), sample(model, 70, seed=1)[:5])
