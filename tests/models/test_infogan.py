"""InfoGAN against independent formulas, its published recipe, and images whose groups are known."""

import math
from typing import Any

import pytest
import torch
from torch.distributions import Categorical, Normal, Uniform
from torch.nn.functional import binary_cross_entropy_with_logits, one_hot

from genmodel.errors import ConfigError
from genmodel.models.contract import Adam, Batch, ImageSpec, Noise, Step, build_model
from genmodel.models.infogan import InfoGAN, InfoGANConfig
from genmodel.params import run_config
from genmodel.pixels import to_model, to_uint8
from genmodel.sizes import Size
from genmodel.training.step.engine import Engine

SMALL: dict[str, Any] = {"base_channels": 4, "latent_dim": 3, "hidden": 16}
SEVERAL = {"categorical_codes": 2, "categories": 5, "continuous_codes": 3}


def small(**network: Any) -> InfoGAN:
    values = {"family": "infogan", "image_size": 8, "network": {**SMALL, **network}}
    model = build_model(run_config(values, "toy"), 0)
    assert isinstance(model, InfoGAN)
    return model


def drawn(model: InfoGAN, n: int, seed: int = 0) -> torch.Tensor:
    return Noise(torch.Generator().manual_seed(seed)).of(model.space, n)


def step(model: InfoGAN, n: int = 8, **kept: Any) -> Step:
    images = torch.rand(n, 3, 8, 8, generator=torch.Generator().manual_seed(5)) * 2 - 1
    held = {name: lambda value=value: value for name, value in kept.items()}
    return Step(Batch(images, torch.full((n,), -1)), Noise(torch.Generator().manual_seed(0)), kept=held)


def test_the_bound_is_that_of_the_distributions_library() -> None:
    model, n = small(**SEVERAL), 7
    noise, found = drawn(model, n), torch.randn(n, 2 * 5 + 2 * 3, generator=torch.Generator().manual_seed(1))
    told = model.information(noise, found)
    codes = [Categorical(logits=found[:, 5 * code : 5 * code + 5]).log_prob(noise[:, code]) for code in range(2)]
    entropy = Categorical(torch.full((5,), 0.2)).entropy()
    torch.testing.assert_close(told["categorical"], sum(each.mean() + entropy for each in codes))
    numbers = Normal(found[:, 10:13], (0.5 * found[:, 13:]).exp()).log_prob(noise[:, 2:5])
    flat = Uniform(-1, 1).entropy()
    torch.testing.assert_close(told["continuous"], (numbers + flat).sum(dim=1).mean())


def test_the_bound_is_the_entropy_where_codes_are_certain_and_nothing_where_they_are_not() -> None:
    model = small(continuous_codes=0, categorical_codes=2)
    noise = drawn(model, 50)
    certain = 100 * one_hot(noise[:, :2].long(), 10).flatten(1).float()
    assert float(model.information(noise, certain)["categorical"]) == pytest.approx(2 * math.log(10))
    assert float(model.information(noise, torch.zeros(50, 20))["categorical"]) == pytest.approx(0, abs=1e-5)
    assert model.information(noise, certain).keys() == {"categorical"}


@pytest.mark.parametrize("weights", [(1.0, 0.1), (0.0, 0.0), (2.0, 3.0)])
def test_both_losses_are_the_gan_s_less_the_weighed_bound(weights: tuple[float, float]) -> None:
    """Each is computed again from the networks' outputs; batch statistics are the same, for the passes are."""
    model = small(categorical_weight=weights[0], continuous_weight=weights[1], **SEVERAL)
    noise = drawn(model, 8)
    fakes = model.sample(noise)
    real, _ = model.discriminator(step(model).batch.images)
    fake, found = model.discriminator(fakes)
    ones = torch.ones(8)
    worth = sum(weight * value for weight, value in zip(weights, model.information(noise, found).values(), strict=True))
    critic = binary_cross_entropy_with_logits(real, ones) + binary_cross_entropy_with_logits(fake, 0 * ones)
    first, second = model.updates()
    torch.testing.assert_close(first.loss(step(model))[0], critic - worth)
    maker, told = second.loss(step(model, drawn=(noise, fakes)))
    torch.testing.assert_close(maker, binary_cross_entropy_with_logits(fake, ones) - worth)
    assert float(told["score/categorical_information"]) == pytest.approx(
        float(model.information(noise, found.detach())["categorical"]), rel=1e-5
    )


def test_the_bound_moves_the_trunk_q_and_the_generator_and_a_generator_s_update_nothing_else() -> None:
    def gradients(update: int, weight: float) -> dict[str, torch.Tensor | None]:
        model = small(categorical_weight=weight, continuous_weight=0.0)
        model.updates()[update].loss(step(model))[0].backward()
        return {name: value.grad for name, value in model.named_parameters()}

    for update, moved in ((0, "discriminator.trunk.0.weight"), (1, "generator.project.0.weight")):
        with_bound, without = gradients(update, 1.0)[moved], gradients(update, 0.0)[moved]
        assert with_bound is not None and without is not None and not torch.allclose(with_bound, without)
    q = gradients(0, 1.0)["discriminator.q.3.weight"]
    assert q is not None and q[:10].abs().min() > 0 and not q[10:].any(), "continuous codes weigh nothing here"
    assert not any(value is not None for name, value in gradients(1, 1.0).items() if name.startswith("discriminator"))


def test_it_is_the_published_network_at_28_px() -> None:
    with torch.device("meta"):
        model = InfoGAN(InfoGANConfig(), ImageSpec(Size.of(28), channels=1))
    shapes = {name: tuple(value.shape) for name, value in model.named_parameters() if value.ndim > 1}
    assert shapes == {
        "generator.project.0.weight": (1024, 74),
        "generator.project.3.weight": (7 * 7 * 128, 1024),
        "generator.layers.0.weight": (128, 64, 4, 4),
        "generator.layers.3.weight": (64, 1, 4, 4),
        "discriminator.trunk.0.weight": (64, 1, 4, 4),
        "discriminator.trunk.2.weight": (128, 64, 4, 4),
        "discriminator.trunk.6.weight": (1024, 7 * 7 * 128),
        "discriminator.real.weight": (1, 1024),
        "discriminator.q.0.weight": (128, 1024),
        "discriminator.q.3.weight": (10 + 2 * 2, 128),
    }
    rates = {player.name: player.optimizer for player in model.players()}
    assert rates["generator"] == Adam(lr=1e-3, betas=(0.5, 0.999))
    assert rates["discriminator"] == Adam(lr=2e-4, betas=(0.5, 0.999))


def test_codes_come_first_and_a_category_reaches_the_generator_as_one_hot() -> None:
    model = small(**SEVERAL).eval()
    assert [(part.kind, part.width) for part in model.space.parts] == [
        ("categorical", 2),
        ("uniform", 3),
        ("uniform", 3),
    ]
    noise = drawn(model, 6)
    told = torch.cat([one_hot(noise[:, 0].long(), 5), one_hot(noise[:, 1].long(), 5), noise[:, 2:]], dim=1)
    torch.testing.assert_close(model.sample(noise), model.generator(told))
    for code in range(5):
        other = noise.clone()
        other[:, code] = (other[:, code] + 1) % 5 if code < 2 else -other[:, code]
        assert not torch.allclose(model.sample(other), model.sample(noise)), f"code {code} changes nothing"


def test_the_group_of_an_image_is_q_s_most_likely_category() -> None:
    model = small(**SEVERAL).eval()
    images = torch.randint(0, 256, (9, 8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    _, found = model.discriminator(to_model(images))
    groups = model.cluster(images)
    assert groups.shape == (9, 2)
    for code in range(2):
        assert torch.equal(groups[:, code], Categorical(logits=found[:, 5 * code : 5 * code + 5]).probs.argmax(dim=1))
    torch.testing.assert_close(model.cluster(images[3:4]), groups[3:4])


def test_a_batch_of_one_is_one_clear_line() -> None:
    model = small()
    with pytest.raises(ConfigError, match="infogan normalises over the batch: each part of it needs at least 2 images"):
        model.updates()[0].loss(step(model, 1))


@pytest.mark.slow
def test_in_training_the_image_comes_to_tell_the_category() -> None:
    """Of noisy images with one of four quarters bright; Q finds the category of what the generator makes of it."""
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 60, (400, 8, 8, 3), generator=rng)
    for place, image in enumerate(images):
        top, left = 4 * (place % 4 // 2), 4 * (place % 2)
        image[top : top + 4, left : left + 4] += 150
    network = {"base_channels": 8, "latent_dim": 3, "hidden": 32, "categories": 4, "continuous_codes": 1}
    training = {"batch_size": 32, "threads": 1, "ema_half_life": 500}
    config = run_config({"family": "infogan", "image_size": 8, "network": network, "training": training}, "toy")
    model = build_model(config, 4)
    assert isinstance(model, InfoGAN)
    engine = Engine(model, config.training, 20_000)
    for number in range(150):
        chosen = torch.randint(400, (32,), generator=rng)
        engine.step(images[chosen].to(torch.uint8), torch.full((32,), -1), 32 * number)
        last = engine.means()
    assert 1 < last["score/categorical_information"] < math.log(4)
    with engine.ema.applied_to(model.averaged), torch.no_grad():
        noise = drawn(model, 400)
        found = model.cluster(to_uint8(model.sample(noise)))
    assert float((found[:, 0] == noise[:, 0]).float().mean()) > 0.9
