"""Against the probabilities of K + 1 classes, the last of them that of fakes, in float64."""

import pytest
import torch

from genmodel.models.parts.improved_gan.semi_supervised import class_loss, feature_matching_loss, log_odds
from genmodel.models.parts.improved_gan.semi_supervised import smoothed_discriminator_loss as discriminator_loss


@pytest.fixture
def logits() -> torch.Tensor:
    return 2 * torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    """[N, K + 1]: the logit of the last class is 0."""
    powers = torch.cat([logits.exp(), torch.ones(len(logits), 1, dtype=logits.dtype)], dim=1)
    return powers / powers.sum(dim=1, keepdim=True)


def test_log_odds_are_those_of_all_classes_but_that_of_fakes(logits: torch.Tensor) -> None:
    fake = probabilities(logits)[:, -1]
    torch.testing.assert_close(log_odds(logits), ((1 - fake) / fake).log())
    torch.testing.assert_close(log_odds(logits[:, :1]), logits[:, 0], msg="with one logit: the usual discriminator")


@pytest.mark.parametrize("target", [1.0, 0.9])
def test_the_discriminators_loss_is_the_cross_entropy_of_real_and_fake(logits: torch.Tensor, target: float) -> None:
    real, fake = logits[:4], logits[4:]
    of_real, of_fake = (probabilities(each)[:, -1] for each in (real, fake))
    expected = -(target * (1 - of_real).log() + (1 - target) * of_real.log()).mean() - of_fake.log().mean()
    torch.testing.assert_close(discriminator_loss(log_odds(real), log_odds(fake), target), expected)


def test_smoothing_is_one_sided_its_best_answer_for_real_images_is_the_target() -> None:
    odds = torch.linspace(-6, 6, 2401, dtype=torch.float64)
    far = torch.tensor([-40.0], dtype=torch.float64)
    losses = torch.stack([discriminator_loss(each[None], far, 0.9) for each in odds])
    assert odds[losses.argmin()].sigmoid().item() == pytest.approx(0.9, abs=1e-3)
    assert discriminator_loss(torch.tensor([50.0]), torch.tensor([-50.0]), 1.0).item() == pytest.approx(0, abs=1e-6)


def test_classes_are_learned_of_the_images_that_have_one(logits: torch.Tensor) -> None:
    """-log p(y | x, y < K + 1)."""
    labels = torch.tensor([3, -1, 0, -1, 4, -1, -1])
    shares = probabilities(logits)[:, :-1]
    shares = shares / shares.sum(dim=1, keepdim=True)
    expected = -torch.stack([shares[0, 3], shares[2, 0], shares[4, 4]]).log().mean()
    torch.testing.assert_close(class_loss(logits, labels), expected)


def test_without_any_label_there_is_nothing_to_learn() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    loss = class_loss(logits, torch.full((4,), -1))
    (slope,) = torch.autograd.grad(loss, logits)
    assert float(loss) == 0 and torch.equal(slope, torch.zeros(4, 5))


def test_feature_matching_compares_means() -> None:
    real, fake = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 0.0, 6.0])
    assert float(feature_matching_loss(real, fake)) == pytest.approx((0 + 4 + 9) / 3)
