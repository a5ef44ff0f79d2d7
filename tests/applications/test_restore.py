"""Images completed, denoised and enlarged by whatever ability a model has, each the same for the same seed."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from genmodel.applications.restore import COMPLETE, RESTORE, able, completed, denoised, enlarged
from genmodel.errors import ModelError
from genmodel.models.abilities import Observation, Reconstructs, Restores
from genmodel.models.contract import Family
from genmodel.models.families import FAMILIES
from genmodel.pixels import to_model, to_uint8
from genmodel.sampling.draw import sample, sample_classes

pytestmark = pytest.mark.usefixtures("toys")
Build = Callable[..., Family]
HALF = torch.arange(16)[:, None].expand(16, 16) < 8


class Restoring(Restores):
    """Draws a sample, and moves it towards what is seen along the slope of the difference."""

    def restore(self, observation: Observation, noise: Tensor, labels: Tensor) -> Tensor:
        assert isinstance(self, Family)
        images = self.sample(noise).requires_grad_()
        apart = 0.5 * (observation.look(images) - observation.seen).square().sum()
        (slope,) = torch.autograd.grad(apart, images)
        return images - slope


@pytest.fixture
def restoring(built: Build) -> Family:
    model = built("three")
    made: Family = type("Toy", (Restoring, type(model)), {})(model.config, model.spec)
    made.load_state_dict(model.state_dict())
    return made.eval().requires_grad_(False)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["autoregressive", "conditional", "vae"])
def test_known_pixels_stay_and_a_completion_is_the_same_for_any_number(family: str, built: Build) -> None:
    model, few = built(family, image_size=8, base_channels=4, latent_dim=4), torch.zeros(8, 8, dtype=torch.bool)
    image = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    few[:2, :2] = True
    two, one, other = (completed(model, image, few, n, seed) for n, seed in ((2, 0), (1, 0), (1, 1)))
    assert two.shape == (2, 8, 8, 3) and two.dtype == torch.uint8
    assert torch.equal(two[:, few], image[few].expand(2, -1, -1))
    assert torch.equal(two[:1], one)
    assert len({each.numpy().tobytes() for each in (*two, *other)}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_does_what_its_abilities_promise(family: str, built: Build) -> None:
    model = built(family, image_size=8, base_channels=8, max_channels=16, latent_dim=4, hidden=16, blocks=1)
    rng = torch.Generator().manual_seed(0)
    image = torch.randint(64, 192, (8, 8, 3), dtype=torch.uint8, generator=rng)
    if isinstance(model, tuple(COMPLETE)):
        known = torch.rand(8, 8, generator=rng) < 0.5
        (made,) = completed(model, image, known, 1, 0)
        assert torch.equal(made[known], image[known]) and not torch.equal(made, image)
    if isinstance(model, tuple(RESTORE)):
        small = image[:4, :4]
        made = enlarged(model, small, 2).double().unflatten(0, (4, 2)).unflatten(2, (4, 2)).mean((1, 3))
        assert (made - small).abs().max() < 1
        clean = denoised(model, image, 1e-3)
        assert torch.equal(clean, image)


def test_ten_completions_are_ten_in_batches_of_eight(built: Build) -> None:
    model, image = built("autoregressive"), torch.zeros(16, 16, 3, dtype=torch.uint8)
    ten = completed(model, image, HALF, 10, 0)
    assert len({each.numpy().tobytes() for each in ten}) == 10
    assert torch.equal(ten[:9], completed(model, image, HALF, 9, 0))


@pytest.mark.slow
@pytest.mark.parametrize("family", ["three", "categories"])
def test_where_nothing_is_known_completions_are_samples(family: str, built: Build) -> None:
    model = built(family)
    nothing = torch.zeros(16, 16, dtype=torch.bool)
    made = completed(model, torch.zeros(16, 16, 3, dtype=torch.uint8), nothing, 3, 5)
    assert (made.int() - sample(model, 3, 5).int()).abs().max() <= 1  # drawn in batches of another size


@pytest.mark.slow
def test_a_class_is_kept_to_or_found(built: Build) -> None:
    model = built("conditional", classes=4)
    for truth in (1, 3):
        image = sample_classes(model, 1, 9, [truth])[0]
        error = [
            float((completed(model, image, HALF, 1, 0, label)[0].double() - image.double()).square().mean())
            for label in (None, truth, (truth + 1) % 4)
        ]
        assert max(error[:2]) < 2 < error[2] or error[2] > 3 * max(error[:2])


def test_noise_is_removed_and_an_image_enlarged(built: Build) -> None:
    """An image that the model can draw, better than by leaving it as it is or by repeating its pixels."""
    model, rng = built("three"), torch.Generator().manual_seed(0)
    image = sample(model, 1, seed=9)[0]
    noisy = (image + 30 * torch.randn(image.shape, generator=rng)).clamp(0, 255).round().to(torch.uint8)
    small = torch.nn.functional.avg_pool2d(image.permute(2, 0, 1).float(), 2).round().permute(1, 2, 0).to(torch.uint8)
    for made, plain in (
        (denoised(model, noisy, 30), noisy),
        (enlarged(model, small, 2), small.repeat_interleave(2, 0).repeat_interleave(2, 1)),
    ):
        error, plainly = (float((each.double() - image.double()).square().mean().sqrt()) for each in (made, plain))
        assert made.shape == image.shape and error < plainly / 3


def test_an_enlarged_image_shrinks_to_the_small_one(built: Build) -> None:
    """Whatever the model draws: its own images are nothing like this one."""
    small = torch.randint(64, 192, (4, 4, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = enlarged(built("three"), small, 4).double().unflatten(0, (4, 4)).unflatten(2, (4, 4)).mean((1, 3))
    assert (made - small).abs().max() < 1


def test_a_model_that_restores_is_asked_to(restoring: Family) -> None:
    image = sample(restoring, 1, seed=9)[0]
    three, one = (completed(restoring, image, HALF, n, 0) for n in (3, 1))
    assert torch.equal(three[:, :8], image[:8].expand(3, -1, -1, -1)) and torch.equal(three[:1], one)
    rest = sample(restoring, 3, seed=0)[:, 8:]
    assert (three[:, 8:].int() - rest.int()).abs().max() <= 1  # what it draws where nothing is seen
    small = torch.randint(64, 192, (8, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    made = enlarged(restoring, small, 2).double().unflatten(0, (8, 2)).unflatten(2, (8, 2)).mean((1, 3))
    assert (made - small).abs().max() < 1
    assert torch.equal(denoised(restoring, image, 1e-3), image)


def test_an_encoder_s_noise_is_among_those_searched_from(built: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("three")
    assert isinstance(model, Reconstructs)
    seen: list[Tensor] = []
    encode = model.encode
    monkeypatch.setattr(model, "encode", lambda images, labels: seen.append(images) or encode(images, labels))
    image = sample(model, 1, seed=9)[0]
    completed(model, image, HALF, 2, 0)
    (first, second) = seen
    assert torch.equal(first, second) and torch.equal(first[0, :8], image[:8])
    assert torch.equal(to_uint8(to_model(first)), first)


def test_a_model_that_cannot_is_told_which_families_can(built: Build) -> None:
    able(built("autoregressive"), COMPLETE, "complete an image")
    with pytest.raises(ModelError, match="it cannot remove noise; a model of one of these families can: d") as said:
        denoised(built("autoregressive"), torch.zeros(16, 16, 3, dtype=torch.uint8), 25)
    named = str(said.value).partition("can: ")[2].split(", ")
    assert {"dcgan", "r3gan", "improved_gan", "infogan", "vae"} <= set(named) and "autoregressive" not in named
    with pytest.raises(ModelError, match="it cannot enlarge an image"):
        enlarged(built("autoregressive"), torch.zeros(8, 8, 3, dtype=torch.uint8), 2)
    with pytest.raises(ModelError, match="it cannot do this"):
        able(built("labels"), RESTORE, "do this")
    with pytest.raises(ModelError, match="it cannot complete an image"):
        completed(built("labels"), torch.zeros(16, 16, 3, dtype=torch.uint8), HALF, 1, 0)
