"""R3GAN: its loss and penalties in float64, its beginning, its settings, its classes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.models.contract import Batch, Noise, Step, build_model
from genmodel.models.noise import Space
from genmodel.models.r3gan import R3GAN, Generator, R3GANConfig, relativistic_loss
from genmodel.models.r3gan import Block as Residual
from genmodel.params import run_config
from genmodel.sampling.draw import Sampler, sample, sample_classes
from genmodel.sampling.export import export_onnx
from genmodel.sampling.load import load_model
from genmodel.sampling.requests import codes
from genmodel.settings.schedule import value_at
from genmodel.showing import display
from genmodel.training.identify import identify
from genmodel.training.step.engine import Engine
from tests.killing import assert_ends_the_same

SMALL = {"base_channels": 8, "max_channels": 24, "latent_dim": 6, "group_channels": 4}
Network = dict[str, Any]


def model_of(network: Network | None = None, classes: int = 3, size: object = 16, channels: int = 3) -> R3GAN:
    config = run_config({"family": "r3gan", "image_size": size, "network": SMALL | (network or {})}, "toy")
    model = build_model(config, classes, channels)
    assert isinstance(model, R3GAN)
    return model


def awake(model: R3GAN) -> R3GAN:
    """As later in a training: at first each block is the identity, and its weights have no gradient."""
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1)
    return model


class Widened(Noise):
    """The same numbers in float64."""

    def of(self, space: Space, count: int) -> Tensor:
        return super().of(space, count).double()


def step_of(model: R3GAN, labels: list[int], seed: int = 0) -> Step:
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(len(labels), model.spec.channels, *model.image_size, generator=rng) * 2 - 1
    dtype = next(model.parameters()).dtype
    knobs = {name: torch.tensor(value_at(setting, 0), dtype=dtype) for name, setting in model.knobs().items()}
    noise = Widened(rng) if dtype == torch.float64 else Noise(rng)
    return Step(Batch(images.to(dtype), torch.tensor(labels)), noise, knobs)


def judged(model: R3GAN, images: Tensor, labels: list[int]) -> Tensor:
    """The discriminator's logits, written anew: plain convolutions [N, C, H, W], biases and activations apart."""
    network = model.discriminator
    first, *layers = network.layers
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=images.dtype)
    kernel = (kernel[:, None] * kernel / 16)[None, None]

    def one(maps: Tensor, layer: nn.Module) -> Tensor:
        return F.conv2d(maps, layer.weight[:, :, None, None])  # type: ignore[index]

    maps = one(images, first)
    for layer in layers:
        if isinstance(layer, Residual):
            inner = F.leaky_relu(one(maps, layer.widen) + layer.widen.bias[:, None, None], 0.2)
            inner = F.conv2d(inner, layer.mix.weight, padding=1, groups=layer.mix.groups)
            inner = F.leaky_relu(inner + layer.mix.bias[:, None, None], 0.2)  # type: ignore[index]
            maps = maps + one(inner, layer.narrow)
        else:
            channels = maps.shape[1]
            smooth = F.conv2d(maps, kernel.expand(channels, 1, 3, 3), padding=1, groups=channels)
            maps = F.avg_pool2d(smooth, 2)
            if isinstance(layer.change, nn.Linear):
                maps = one(maps, layer.change)
    ended = F.conv2d(maps, network.basis.permute(2, 0, 1)[:, None], groups=maps.shape[1]).flatten(1)
    found = ended @ network.project.weight.T
    if network.embedding is None:
        return found[:, 0]
    table = network.embedding.weight
    asked = torch.stack([table[label] if label >= 0 else table.sum(0) / len(table) for label in labels])
    return torch.einsum("ne,ne->n", found, asked)


def gradients(loss: Tensor, network: nn.Module) -> Tensor:
    """All of a network's gradients as one vector, in float64."""
    return torch.cat([each.flatten().double() for each in torch.autograd.grad(loss, list(network.parameters()))])


@pytest.mark.slow
@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize(("gamma", "size"), [(0.0, "16"), (30.0, "16"), (30.0, "16x8")])
def test_updates_have_the_gradients_of_eager_float64(conditional: bool, gamma: float, size: str) -> None:
    """Of the loss and of gamma / 2 times both penalties, by plain autograd through other code. In float32, too."""
    labels = [0, 2, -1, 1, 1]
    model = awake(model_of({"conditional": conditional, "gamma": gamma}, size=size)).double()
    step = step_of(model, labels)
    real, fake = step.batch.images.clone().requires_grad_(), model._fakes(step).detach().requires_grad_()
    real_logits, fake_logits = judged(model, real, labels), judged(model, fake, labels)
    slopes = [
        torch.autograd.grad(logits.sum(), images, create_graph=True)[0].square().sum((1, 2, 3)).mean()
        for logits, images in ((real_logits, real), (fake_logits, fake))
    ]
    loss = (1 + (fake_logits - real_logits).exp()).log().mean()
    expected = gradients(loss + gamma / 2 * (slopes[0] + slopes[1]), model.discriminator)
    found, metrics = model._discriminator_loss(step_of(model, labels))
    assert float(metrics["loss/penalty"]) == pytest.approx(float(slopes[0] + slopes[1]), rel=1e-9)
    torch.testing.assert_close(gradients(found, model.discriminator), expected, rtol=1e-9, atol=1e-12)

    fake = model._fakes(step_of(model, labels))
    loss = (1 + (judged(model, real, labels) - judged(model, fake, labels)).exp()).log().mean()
    expected_of_generator = gradients(loss, model.generator)
    found, _ = model._generator_loss(step_of(model, labels))
    torch.testing.assert_close(gradients(found, model.generator), expected_of_generator, rtol=1e-9, atol=1e-12)

    single = model.float().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    single_step = step_of(single, labels)
    found, _ = single._discriminator_loss(single_step)
    error = (gradients(found, single.discriminator) - expected).norm() / expected.norm()
    assert error < 1e-4


def test_both_penalties_move_the_gradient() -> None:
    """Or their agreement with float64 would say nothing."""
    model = awake(model_of())
    (without, with_both), one = (
        [gradients(model_of_gamma(model, gamma), model.discriminator) for gamma in (0.0, 1.0)],
        step_of(model, [0] * 5),
    )
    images = one.batch.images.requires_grad_()
    (slopes,) = torch.autograd.grad(model.discriminator(images, one.batch.labels).sum(), images, create_graph=True)
    of_real = gradients(0.5 * slopes.square().sum((1, 2, 3)).mean(), model.discriminator)
    both = with_both - without
    assert both.norm() > 0.01 * without.norm()
    assert (both - of_real).norm() > 0.1 * both.norm(), "that of the fake images, too"


def model_of_gamma(model: R3GAN, gamma: float) -> Tensor:
    step = step_of(model, [0] * 5)
    loss, _ = model._discriminator_loss(Step(step.batch, step.noise, {**step.knobs, "gamma": torch.tensor(gamma)}))
    return loss


def test_the_loss_compares_pairs() -> None:
    logits, others = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 3.0])
    expected = (math.log1p(math.exp(-0.5)) + math.log1p(math.exp(5.0))) / 2
    assert float(relativistic_loss(logits, others)) == pytest.approx(expected)


def test_weights_begin_as_published() -> None:
    """Gain sqrt(2 / 1.04) L^(-1/4) with L blocks a network, the last convolution of each 0: a block is the identity."""
    model = model_of({"base_channels": 64, "max_channels": 128, "group_channels": 16}, size=32)
    for network in (model.generator, model.discriminator):
        blocks = [module for module in network.modules() if isinstance(module, Residual)]
        assert len(blocks) == 8
        gain = math.sqrt(2 / 1.04) * 8**-0.25
        for block in blocks:
            assert block.widen.weight.std().item() == pytest.approx(gain / math.sqrt(block.widen.in_features), rel=0.05)
            assert block.mix.weight.std().item() == pytest.approx(gain / math.sqrt(16 * 9), rel=0.05)
            assert not block.narrow.weight.any() and not block.widen.bias.any() and not block.mix.bias.any()
            maps = torch.randn(2, 4, 4, block.widen.in_features)
            assert torch.equal(block(maps), maps)
    first = model.discriminator.layers[0].weight
    assert first.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.1)
    assert model.generator.basis.std().item() == pytest.approx(1, rel=0.1)
    assert model.discriminator.basis.std().item() == pytest.approx(1 / 4, rel=0.1)


def test_defaults_are_the_published_ones() -> None:
    with torch.device("meta"):
        model = R3GAN(R3GANConfig(), model_of(size=32).spec)
    for network in (model.generator, model.discriminator):
        blocks = [module for module in network.modules() if isinstance(module, Residual)]
        assert [block.mix.groups for block in blocks] == [96] * 8
        assert [block.mix.in_channels for block in blocks] == [1536] * 8
    for setting, expected in (
        (R3GANConfig.learning_rate, (2e-4, 5e-5)),
        (R3GANConfig.beta2, (0.9, 0.99)),
        (R3GANConfig.gamma, (0.05, 0.005)),
    ):
        assert (value_at(setting, 0), value_at(setting, 20_000_000)) == expected
    assert {player.optimizer.betas[0] for player in model.players()} == {0.0}


def test_width_and_depth_are_settings() -> None:
    model = model_of({"base_channels": 8, "max_channels": 20, "blocks": 3, "group_channels": 16}, size=32)
    blocks = [module for module in model.generator.modules() if isinstance(module, Residual)]
    assert [block.widen.in_features for block in blocks] == [20] * 6 + [16] * 3 + [8] * 3
    assert [block.mix.groups for block in blocks] == [5] * 6 + [2] * 3 + [1] * 3, "of 40 channels groups of 8"


def test_schedules_reach_the_optimisers_and_the_loss() -> None:
    network = {
        "learning_rate": {"start": 1e-3, "end": 1e-4, "over": 200},
        "beta2": {"start": 0.9, "end": 0.99, "over": 100, "shape": "linear"},
        "gamma": {"start": 2.0, "end": 0.5, "over": 300},
    }
    config = run_config({"family": "r3gan", "image_size": 8, "network": SMALL | network}, "toy")
    engine = Engine(build_model(config, classes=2), config.training, 400)
    for seen in (0, 100, 200):
        engine.step(torch.zeros(8, 8, 8, 3, dtype=torch.uint8), torch.zeros(8, dtype=torch.int64), seen)
        settings = config.network
        expected = [value_at(each, seen) for each in (settings.learning_rate, settings.beta2, settings.gamma)]
        for optimizer in engine.optimizers.values():
            (group,) = optimizer.torch.param_groups
            assert [group["lr"], *group["betas"]] == pytest.approx([expected[0], 0.0, expected[1]])
        assert float(engine.knobs["gamma"]) == pytest.approx(expected[2])


def test_a_class_that_is_asked_for_decides_the_image() -> None:
    model = awake(model_of({"conditional": True})).eval()
    assert model.classes == 3
    drawn = sample_classes(model, 4, 0, [0, 1, 2]).view(3, 4, -1)
    assert not torch.equal(drawn[0], drawn[1]) and not torch.equal(drawn[1], drawn[2])
    plain = awake(model_of())
    assert plain.classes == 0
    known, unknown = (plain._discriminator_loss(step_of(plain, labels))[0] for labels in ([0, 1, 2], [-1, -1, -1]))
    assert torch.equal(known, unknown)


def test_withheld_labels_are_any_class_to_the_generator_and_the_mean_to_the_discriminator(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = awake(model_of({"conditional": True}))
    asked: list[list[int]] = []
    forward = Generator.forward

    def listening(self: Generator, z: Tensor, labels: Tensor) -> Tensor:
        asked.append(labels.tolist())
        return forward(self, z, labels)

    monkeypatch.setattr(Generator, "forward", listening)
    model._fakes(step_of(model, [2, 0] + [-1] * 60))
    assert asked[0][:2] == [2, 0] and all(3 * asked[0].count(label) > 15 for label in range(3))
    images = torch.rand(1, 3, 16, 16)
    logits = [model.discriminator(images, torch.tensor([label])) for label in (0, 1, 2, -1)]
    torch.testing.assert_close(logits[3], torch.stack(logits[:3]).mean(0))


def test_conditional_without_classes_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^r3gan: the images have no classes; set network.conditional to false$"):
        model_of({"conditional": True}, classes=0)


@pytest.mark.slow
def test_a_conditional_model_as_onnx_draws_the_same_images(tmp_path: Path) -> None:
    model = awake(model_of({"conditional": True})).eval().requires_grad_(False)
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    for n in (1, 5, 70):
        rows = codes(model.space, [1.0] * 3, n, seed=n)
        (images,) = session.run(["images"], {"codes": rows.numpy()})
        expected = Sampler(model)(rows).numpy()
        assert len(np.unique(expected)) > 50
        assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1


TRAINING = {"images": 320, "batch_size": 8, "threads": 1, "log_every": 56, "checkpoint_every": 80, "labelled": 5}
TRAINING |= {"ema_half_life": {"start": 0, "end": 100, "over": 200}}
CHANGING = {
    "conditional": True,
    "learning_rate": {"start": 2e-3, "end": 1e-3, "over": 200},
    "beta2": {"start": 0.9, "end": 0.99, "over": 200},
    "gamma": {"start": 1.0, "end": 0.1, "over": 200},
}


@pytest.mark.slow
def test_killed_and_resumed_it_ends_the_same(
    block: Block, in_child: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With labels withheld, and everything that can follow a schedule following one."""
    monkeypatch.setattr(display, "sample_moments", lambda images, per_step: {0, images})
    values = {"family": "r3gan", "image_size": 8, "network": SMALL | CHANGING, "training": TRAINING}
    who = identify("it", run_config(values, "it"), block)
    assert_ends_the_same(who, block, in_child, tmp_path)
    model, about = load_model(tmp_path / "out")
    assert model.classes == 2 and about["classes"] == ["circle", "square"]
    assert torch.equal(sample(model, 5, seed=1), sample(model, 70, seed=1)[:5])
