import hashlib
import math
from functools import partial
from typing import Any

import pytest
import torch

from genmodel.errors import ConfigError
from genmodel.models.abilities import Bounds, Inverts, Reconstructs, Weighted
from genmodel.models.contract import Adam, Batch, Family, ImageSpec, Noise, Step, build_model
from genmodel.models.dcgan import DCGAN
from genmodel.models.families import FAMILIES, load_family
from genmodel.models.parts.losses import discretised_logistic_nll
from genmodel.models.vae import VAE
from genmodel.params import run_config
from genmodel.pixels import to_model
from genmodel.sampling.draw import codes
from genmodel.settings.schedule import value_at
from genmodel.sizes import Size
from tests.small import network_of

SMALL = {"base_channels": 4, "latent_dim": 6, "blocks": 1, "halvings": 0, "steps": 2}


def toy(family: str, image_size: int = 8) -> Family:
    network = network_of(family, **SMALL)
    return build_model(run_config({"family": family, "image_size": image_size, "network": network}, "toy"), 0)


def images(n: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator).float() / 127.5 - 1


def optimizers(model: Family) -> dict[str, torch.optim.Optimizer]:
    made = {}
    for player in model.players():
        declared = player.optimizer
        kind = partial(torch.optim.Adam, fused=True) if isinstance(declared, Adam) else torch.optim.Adamax
        made[player.name] = kind(
            player.parameters(),
            value_at(declared.lr, 0),
            tuple(value_at(beta, 0) for beta in declared.betas),  # type: ignore[arg-type]
            declared.eps,
        )
    return made


def step(
    model: Family,
    real: torch.Tensor,
    rng: torch.Generator,
    moved_by: dict[str, torch.optim.Optimizer] | None = None,
) -> dict[str, torch.Tensor]:
    """A training step, as plain as it can be; `moved_by` where optimisers go on from step to step."""
    metrics: dict[str, torch.Tensor] = {}
    moved_by, players = moved_by or optimizers(model), {player.name: player for player in model.players()}
    labels, shared = torch.full((len(real),), -1), {}  # type: ignore[var-annotated]
    knobs = {name: torch.tensor(value_at(setting, 0)) for name, setting in model.knobs().items()}
    for update in model.updates():
        optimizer = moved_by[update.player]
        optimizer.zero_grad()
        loss, measured = update.loss(Step(Batch(real.clone(), labels), Noise(rng), knobs, shared))
        loss.backward(inputs=players[update.player].parameters())
        optimizer.step()
        metrics |= measured
    return metrics


def noise(model: Family, n: int) -> torch.Tensor:
    return Noise(torch.Generator().manual_seed(0)).of(model.space, n)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("image_size", [8, 16, 64])
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
@pytest.mark.parametrize(("image_size", "channels"), [("28", 1), ("96", 3), ("64x32", 3), ("32x64", 4), ("40x10", 1)])
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


def test_dcgan_at_64_px_has_the_known_numbers_of_weights() -> None:
    model = DCGAN(DCGAN.Config(), ImageSpec(Size.of(64)))
    count = lambda part: sum(value.numel() for value in part.parameters())  # noqa: E731
    assert count(model.generator) == pytest.approx(3.58e6, rel=2e-3)
    assert count(model.discriminator) == pytest.approx(2.77e6, rel=2e-3)


def test_dcgan_starts_as_published() -> None:
    model = build_model(run_config({"family": "dcgan", "image_size": 64}, "toy"), 0)
    assert isinstance(model, DCGAN)
    weight = model.generator.project.weight
    assert weight.mean().item() == pytest.approx(0, abs=1e-4)
    assert weight.std().item() == pytest.approx(0.02, rel=0.01)
    for z in (noise(model, 2_000), codes(model.space, [], 2_000, seed=0)):  # of training, of sampling
        assert z.shape == (2_000, 100)
        assert z.min() >= -1 and z.max() <= 1
        assert z.var().item() == pytest.approx(1 / 3, rel=0.02)  # uniform in [-1, 1]
    assert [player.optimizer for player in model.players()] == [Adam(lr=2e-4, betas=(0.5, 0.999))] * 2


def test_dcgan_generator_follows_figure_1() -> None:
    """100 -> 4x4x1024 -> 8x8x512 -> 16x16x256 -> 32x32x128 -> 64x64x3."""
    with torch.device("meta"):
        generator = DCGAN(DCGAN.Config(base_channels=128), ImageSpec(Size.of(64))).generator
    widths = [layer.in_channels for layer in generator.layers if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert widths == [1024, 512, 256, 128]
    assert generator.project.out_features == 4 * 4 * 1024


def test_dcgan_generator_step_leaves_the_discriminators_gradient_alone() -> None:
    """The second backward pass goes through the discriminator but must not change what it learned from."""
    model = toy("dcgan")
    real = images(4, 8)
    step(model, real, torch.Generator().manual_seed(0))
    reference = toy("dcgan")
    fake = reference.generator(noise(reference, 4))
    loss = torch.nn.functional.softplus(-reference.discriminator(real)).mean()
    loss = loss + torch.nn.functional.softplus(reference.discriminator(fake.detach())).mean()
    loss.backward()
    for mine, theirs in zip(model.discriminator.parameters(), reference.discriminator.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


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


def test_vae_bits_are_the_sum_of_distortion_and_rate_whatever_beta() -> None:
    levels = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
    model = toy("vae").eval()
    assert isinstance(model, VAE)
    terms = model.negative_elbo(to_model(levels), Noise(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(terms["negative_elbo"], terms["distortion"] + terms["rate"])
    heavy = build_model(
        run_config({"family": "vae", "image_size": 8, "network": network_of("vae", **SMALL) | {"beta": 30.0}}, "toy"), 0
    ).eval()
    for each in (model, heavy):
        assert isinstance(each, VAE)
        bound = each.bound(levels, torch.full((6,), -1), torch.Generator().manual_seed(0))
        torch.testing.assert_close(bound, terms["negative_elbo"])
    moved = heavy.negative_elbo(to_model(levels), Noise(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(moved, terms)


def test_vae_learns_to_code_a_constant_image_cheaply() -> None:
    """Likelihood of discrete levels: a known image costs nearly nothing, and never less."""
    model = build_model(
        run_config(
            {"family": "vae", "image_size": 8, "network": network_of("vae", **SMALL) | {"learning_rate": 0.02}}, "toy"
        ),
        0,
    )
    moved_by = optimizers(model)
    constant = torch.zeros(4, 3, 8, 8) + 1 / 255
    for number in range(300):
        metrics = step(model, constant, torch.Generator().manual_seed(number), moved_by)
    assert 0 < metrics["loss/negative_elbo"] < 1.5


@pytest.mark.slow
def test_the_weighted_bound_reaches_the_likelihood_itself() -> None:
    """With one latent dimension -log2 p(x) is an integral that a fine grid can do."""
    config = {"family": "vae", "image_size": 8, "network": {"base_channels": 4, "latent_dim": 1}}
    model = build_model(run_config(config, "toy"), 0).eval()
    assert isinstance(model, VAE)
    levels = (images(5, 8).permute(0, 2, 3, 1) * 127.5 + 127.5).round().to(torch.uint8)
    inputs = to_model(levels)
    with torch.no_grad():
        model.encoder.head.weight.mul_(30)  # a posterior that is neither the prior nor the true one
        grid = torch.linspace(-8, 8, 4001)
        means = model.decoder(grid[:, None])
        log_prior = -0.5 * grid.square() - 0.5 * math.log(2 * math.pi)
        for number in range(5):
            nll = discretised_logistic_nll(inputs[number : number + 1], means, model.log_scale)
            exact = torch.logsumexp((log_prior - nll).double(), 0) + math.log(float(grid[1] - grid[0]))
            one = levels[number : number + 1]
            found = model.weighted_bound(one, torch.full((1,), -1), torch.Generator().manual_seed(0), 4000)
            assert float(found) == pytest.approx(-float(exact) / (8 * 8 * 3 * math.log(2)), abs=2e-4)
            bound = [
                float(model.bound(one, torch.full((1,), -1), torch.Generator().manual_seed(seed))) for seed in range(50)
            ]
            assert float(found) < sum(bound) / len(bound)


def test_more_samples_tighten_the_weighted_bound() -> None:
    model = toy("vae").eval()
    assert isinstance(model, VAE)
    levels = (images(20, 8).permute(0, 2, 3, 1) * 127.5 + 127.5).round().to(torch.uint8)
    with torch.no_grad():
        model.encoder.head.weight.mul_(100)
        bits = [
            float(model.weighted_bound(levels, torch.full((20,), -1), torch.Generator().manual_seed(1), samples).mean())
            for samples in (1, 8, 64)
        ]
    assert bits[0] > bits[1] > bits[2]


def test_reconstructions_are_images_of_the_mean_codes() -> None:
    model = toy("vae").eval()
    assert isinstance(model, VAE)
    levels, unknown = (images(3, 8).permute(0, 2, 3, 1) * 127.5 + 127.5).round().to(torch.uint8), torch.full((3,), -1)
    with torch.no_grad():
        mu, _ = model.encoder(to_model(levels))
        torch.testing.assert_close(model.encode(levels, unknown), mu)
        torch.testing.assert_close(model.reconstruct(levels, unknown), model.sample(mu))


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
