"""None"""

import hashlib
from functools import partial
from typing import Any

import pytest
import torch

from genmodel.errors import ConfigError
from genmodel.models.abilities import Bounds, Inverts, Reconstructs, Weighted
from genmodel.models.contract import Batch, ImageSpec, Noise, Step, build_model
from genmodel.models.families import FAMILIES, load_family
from genmodel.params import run_config
from genmodel.sampling.draw import codes
from genmodel.settings.schedule import value_at
from genmodel.sizes import Size
from tests.models.stepped import SMALL, images, noise, optimizers, step, toy
from tests.small import network_of


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("image_size", [8, 16, pytest.param(64, marks=pytest.mark.slow)])
def test_generates_images_of_its_size_in_range(family: str, image_size: int) -> None:
    model = toy(family, image_size).eval()
    generated = model.sample(noise(model, 3))
    assert generated.shape == (3, 3, image_size, image_size)
    assert generated.abs().max() <= 1


@pytest.mark.parametrize("family", [name for name in FAMILIES if "check" in vars(load_family(name))])
@pytest.mark.parametrize(
    ("image_size", "near"),
    [
        ("9", "8 or 10"),
        ("30", "28 or 32"),
        ("100", "96 or 112"),
        ("100x64", "96x64 or 112x64"),
        ("62x33", "56x32 or 64x32"),
    ],
)
def test_refuses_a_size_it_cannot_do_and_names_the_nearest(family: str, image_size: str, near: str) -> None:
    config, spec = run_config({"family": family}, "toy").network, ImageSpec(Size.of(image_size))
    for told in (partial(load_family(family).check, spec), partial(load_family(family), config, spec)):
        with pytest.raises(ConfigError, match=rf"{family} cannot make {image_size} px images: .* and can make {near}$"):
            told()
    for other in near.split(" or "):
        load_family(family).check(ImageSpec(Size.of(other)))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("image_size", "channels"),
    [
        ("28", 1),
        ("40x10", 1),
        *(pytest.param(*large, marks=pytest.mark.slow) for large in [("96", 3), ("64x32", 3), ("32x64", 4)]),
    ],
)
def test_does_images_of_other_shapes_and_channels(family: str, image_size: str, channels: int) -> None:
    """64x32 is 64 wide and 32 high."""
    size = Size.of(image_size)
    network = network_of(family, base_channels=2, latent_dim=3, blocks=1, halvings=0, steps=2)
    config = run_config({"family": family, "image_size": image_size, "network": network}, "toy")
    model = build_model(config, 0, channels)
    assert model.eval().sample(noise(model, 2)).shape == (2, channels, *size)
    real = torch.rand(4, channels, *size) * 2 - 1
    step(model.train(), real, torch.Generator().manual_seed(0))
    assert all(weight.isfinite().all() for weight in model.parameters())


@pytest.mark.parametrize(
    ("family", "image_size", "digest"),
    [
        ("dcgan", 8, "0c3a42bc108bac8d"),
        ("dcgan", 64, "8a9f4736e5abba6e"),
        ("dcgan", 128, "45be9e07cfee2fa3"),
        ("vae", 8, "cb25038d7739432b"),
        ("vae", 64, "eca1074a74ba7bc1"),
        ("vae", 128, "65be3f90012c26b5"),
    ],
)
def test_squares_of_three_channels_begin_with_the_weights_of_before(family: str, image_size: int, digest: str) -> None:
    """Digests of before there were other shapes: names, forms and values of all that a training begins with."""
    config = run_config({"family": family, "image_size": image_size, "network": {"base_channels": 8}}, "toy")
    found = hashlib.sha256()
    for name, value in build_model(config, 5).state_dict().items():
        found.update(f"{name}{tuple(value.shape)}".encode())
        found.update(value.numpy().tobytes())
    assert found.hexdigest().startswith(digest)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_does_not_depend_on_its_neighbours(family: str) -> None:
    model = toy(family).eval()
    z = noise(model, 5)
    with torch.no_grad():
        torch.testing.assert_close(model.sample(z)[2:3], model.sample(z[2:3]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_give_equal_steps_and_other_noise_other_ones(family: str) -> None:
    def losses(noise_seed: int) -> dict[str, torch.Tensor]:
        model = toy(family)
        moved_by = optimizers(model)
        for number in range(2):
            metrics = step(model, images(4, 8), torch.Generator().manual_seed(noise_seed + number), moved_by)
        return metrics

    assert losses(7) == losses(7)
    assert losses(7) != losses(70)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_learns(family: str) -> None:
    """Every weight moves, and no weight becomes anything but a number. At the second step: what lies behind a weight
    that begins at 0 has no gradient at the first."""
    model = toy(family)
    before = {name: value.clone() for name, value in model.named_parameters()}
    moved_by = optimizers(model)
    for number in range(2):
        step(model, images(8, 8), torch.Generator().manual_seed(number), moved_by)
    for name, value in model.named_parameters():
        assert torch.isfinite(value).all(), name
        assert not torch.equal(value, before[name]), f"{name} did not move"


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("dcgan", {}),
        ("infogan", {"hidden": 8}),
        ("improved_gan", {}),
        ("improved_gan", {"feature_matching": True}),
        ("r3gan", {"max_channels": 8}),
    ],
)
def test_a_gan_augments_all_that_its_discriminator_sees(family: str, more: dict[str, Any]) -> None:
    """Reals, fakes and those of the generator's update, with the probability of the moment: only a shift brings in
    black."""
    augment = {"translate": 0.5, "probability": {"start": 0, "end": 1, "over": 100}}
    network = network_of(family, **SMALL) | more | {"augment": augment}
    model: Any = build_model(run_config({"family": family, "image_size": 8, "network": network}, "toy"), 0)
    assert [value_at(model.knobs()["augmentation"], seen) for seen in (0, 50, 100)] == pytest.approx([0, 0.5, 1])
    black: list[float] = []
    model.discriminator.register_forward_pre_hook(lambda _, given: black.append(float((given[0] == -1).float().mean())))
    for probability in (0.0, 1.0):
        knobs = {name: torch.tensor(value_at(setting, 0)) for name, setting in model.knobs().items()}
        knobs["augmentation"] = torch.tensor(probability)
        given = Step(Batch(torch.zeros(32, 3, 8, 8), torch.zeros(32).long()), Noise(torch.Generator()), knobs)
        for update in model.updates():
            update.loss(given)
    half = len(black) // 2
    assert half >= 3 and max(black[:half]) == 0 and min(black[half:]) > 0.2


def test_a_model_has_the_abilities_that_it_declares() -> None:
    for ability in (Bounds, Weighted, Reconstructs):
        assert isinstance(toy("vae"), ability) and not isinstance(toy("dcgan"), ability)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_that_inverts_has_slopes_in_all_noise_but_categories(family: str) -> None:
    model = toy(family).eval().requires_grad_(False)
    if not isinstance(model, Inverts):
        pytest.skip("its noise is not searched for")
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(weight.numel())))
    found = codes(model.space, [], 3, seed=0).requires_grad_()
    model.sample(found).square().sum().backward()
    assert found.grad is not None
    parts = [part.kind for part in model.space.parts for _ in range(part.width)]
    assert [bool(column.any()) for column in found.grad.T] == [kind != "categorical" for kind in parts]
