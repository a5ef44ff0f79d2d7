"""What the two oldest families must be: DCGAN as published, the VAE's figures as derived."""

import math

import pytest
import torch

from genmodel.models.contract import Adam, ImageSpec, Noise, build_model
from genmodel.models.dcgan import DCGAN
from genmodel.models.parts.losses import discretised_logistic_nll
from genmodel.models.vae import VAE
from genmodel.params import run_config
from genmodel.pixels import to_model
from genmodel.sampling.draw import codes
from genmodel.sizes import Size
from tests.models.stepped import SMALL, images, noise, optimizers, step, toy
from tests.small import network_of


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


@pytest.mark.slow
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
