import math

import pytest
import torch

from genmodel.config import run_config
from genmodel.errors import ConfigError
from genmodel.models.contract import GenerativeModel, Noise, build_model
from genmodel.models.dcgan import DCGAN
from genmodel.models.families import FAMILIES, load_family
from genmodel.models.parts.losses import discretised_logistic_nll
from genmodel.models.vae import VAE
from genmodel.pixels import to_model

SMALL = {"network": {"base_channels": 4, "latent_dim": 6}}


def toy(family: str, image_size: int = 8) -> GenerativeModel:
    return build_model(run_config({"family": family, "image_size": image_size, **SMALL}, "toy"))


def images(n: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (n, 3, size, size), generator=generator).float() / 127.5 - 1


def step(model: GenerativeModel, real: torch.Tensor, rng: torch.Generator) -> dict[str, torch.Tensor]:
    """A training step, as plain as it can be."""
    metrics: dict[str, torch.Tensor] = {}
    for phase in model.phases():
        optimizer = model.optimizers()[phase.name]
        optimizer.zero_grad()
        loss, measured = phase.loss(real.clone(), Noise(rng))
        loss.backward(inputs=list(phase.network.parameters()))
        optimizer.step()
        metrics |= measured
    return metrics


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("image_size", [8, 16, 64])
def test_generates_images_of_its_size_in_range(family: str, image_size: int) -> None:
    model = toy(family, image_size).eval()
    generated = model.generate(model.draw_codes(3, torch.Generator().manual_seed(0)))
    assert generated.shape == (3, 3, image_size, image_size)
    assert generated.abs().max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("image_size", [4, 24, 100])
def test_refuses_a_size_it_cannot_do(family: str, image_size: int) -> None:
    config = run_config({"family": family, "image_size": 64}, "toy").network
    with pytest.raises(ConfigError, match=rf"{family} cannot do {image_size} px"):
        load_family(family)(config, image_size)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_sample_does_not_depend_on_its_neighbours(family: str) -> None:
    model = toy(family).eval()
    z = model.draw_codes(5, torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.generate(z)[2:3], model.generate(z[2:3]), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_equal_seeds_give_equal_steps_and_other_noise_other_ones(family: str) -> None:
    def losses(noise_seed: int) -> dict[str, torch.Tensor]:
        model = toy(family)
        for number in range(2):
            metrics = step(model, images(4, 8), torch.Generator().manual_seed(noise_seed + number))
        return metrics

    assert losses(7) == losses(7)
    assert losses(7) != losses(70)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_step_learns(family: str) -> None:
    """Every weight moves, and no weight becomes anything but a number."""
    model = toy(family)
    before = {name: value.clone() for name, value in model.named_parameters()}
    step(model, images(8, 8), torch.Generator().manual_seed(0))
    for name, value in model.named_parameters():
        assert torch.isfinite(value).all(), name
        assert not torch.equal(value, before[name]), f"{name} did not move"


def test_dcgan_at_64_px_has_the_known_numbers_of_weights() -> None:
    model = DCGAN(DCGAN.Config(), 64)
    count = lambda part: sum(value.numel() for value in part.parameters())  # noqa: E731
    assert count(model.generator) == pytest.approx(3.58e6, rel=2e-3)
    assert count(model.discriminator) == pytest.approx(2.77e6, rel=2e-3)


def test_dcgan_starts_as_published() -> None:
    model = build_model(run_config({"family": "dcgan", "image_size": 64}, "toy"))
    assert isinstance(model, DCGAN)
    weight = model.generator.project.weight
    assert weight.mean().item() == pytest.approx(0, abs=1e-4)
    assert weight.std().item() == pytest.approx(0.02, rel=0.01)
    z = model.draw_codes(2_000, torch.Generator().manual_seed(0))
    assert z.shape == (2_000, 100)
    assert z.min() >= -1 and z.max() <= 1
    assert z.var().item() == pytest.approx(1 / 3, rel=0.02)  # uniform in [-1, 1]
    for optimizer in model.optimizers().values():
        assert optimizer.defaults["lr"] == 2e-4
        assert optimizer.defaults["betas"] == (0.5, 0.999)


def test_dcgan_generator_follows_figure_1() -> None:
    """100 -> 4x4x1024 -> 8x8x512 -> 16x16x256 -> 32x32x128 -> 64x64x3."""
    with torch.device("meta"):
        generator = DCGAN(DCGAN.Config(base_channels=128), 64).generator
    widths = [layer.in_channels for layer in generator.layers if isinstance(layer, torch.nn.ConvTranspose2d)]
    assert widths == [1024, 512, 256, 128]
    assert generator.project.out_features == 4 * 4 * 1024


def test_dcgan_generator_step_leaves_the_discriminators_gradient_alone() -> None:
    """The second backward pass goes through the discriminator but must not change what it learned from."""
    model = toy("dcgan")
    real = images(4, 8)
    step(model, real, torch.Generator().manual_seed(0))
    reference = toy("dcgan")
    fake = reference.generator(reference.draw_codes(4, torch.Generator().manual_seed(0)))
    loss = torch.nn.functional.softplus(-reference.discriminator(real)).mean()
    loss = loss + torch.nn.functional.softplus(reference.discriminator(fake.detach())).mean()
    loss.backward()
    for mine, theirs in zip(model.discriminator.parameters(), reference.discriminator.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


def test_vae_bits_are_the_sum_of_distortion_and_rate_whatever_beta() -> None:
    levels = torch.randint(0, 256, (6, 8, 8, 3), dtype=torch.uint8)
    model = toy("vae").eval()
    terms = model.bits_per_dim(levels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(terms["bits_per_dim"], terms["distortion"] + terms["rate"])
    heavy = build_model(
        run_config({"family": "vae", "image_size": 8, "network": {**SMALL["network"], "beta": 30.0}}, "toy")
    ).eval()
    torch.testing.assert_close(heavy.bits_per_dim(levels, torch.Generator().manual_seed(0)), terms)


def test_vae_learns_to_code_a_constant_image_cheaply() -> None:
    """Likelihood of discrete levels: a known image costs nearly nothing, and never less."""
    model = build_model(
        run_config({"family": "vae", "image_size": 8, "network": {**SMALL["network"], "learning_rate": 0.02}}, "toy")
    )
    constant = torch.zeros(4, 3, 8, 8) + 1 / 255
    for number in range(300):
        metrics = step(model, constant, torch.Generator().manual_seed(number))
    assert 0 < metrics["loss/negative_elbo"] < 1.5


def test_the_weighted_bound_reaches_the_likelihood_itself() -> None:
    """With one latent dimension -log2 p(x) is an integral that a fine grid can do."""
    config = {"family": "vae", "image_size": 8, "network": {"base_channels": 4, "latent_dim": 1}}
    model = build_model(run_config(config, "toy")).eval()
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
            found = model.importance_weighted_bits(one, torch.Generator().manual_seed(0), 4000)
            assert float(found) == pytest.approx(-float(exact) / (8 * 8 * 3 * math.log(2)), abs=2e-4)
            bound = [
                float(model.bits_per_dim(one, torch.Generator().manual_seed(seed))["bits_per_dim"])
                for seed in range(50)
            ]
            assert float(found) < sum(bound) / len(bound)


def test_more_samples_tighten_the_weighted_bound() -> None:
    model = toy("vae").eval()
    levels = (images(20, 8).permute(0, 2, 3, 1) * 127.5 + 127.5).round().to(torch.uint8)
    with torch.no_grad():
        model.encoder.head.weight.mul_(100)  # type: ignore[union-attr,operator]
        bits = [
            float(model.importance_weighted_bits(levels, torch.Generator().manual_seed(1), samples).mean())
            for samples in (1, 8, 64)
        ]
    assert bits[0] > bits[1] > bits[2]


def test_reconstructions_are_images_of_the_mean_codes() -> None:
    model = toy("vae").eval()
    levels = (images(3, 8).permute(0, 2, 3, 1) * 127.5 + 127.5).round().to(torch.uint8)
    with torch.no_grad():
        mu, _ = model.encoder(to_model(levels))  # type: ignore[union-attr,operator]
        torch.testing.assert_close(model.reconstruct(levels), model.generate(mu))


def test_a_model_without_a_likelihood_says_so() -> None:
    levels = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    for call in (
        lambda model: model.importance_weighted_bits(levels, torch.Generator(), 2),
        lambda model: model.reconstruct(levels),
    ):
        with pytest.raises(AssertionError, match="no likelihood"):
            call(toy("dcgan"))
