"""The classes of an improved_gan: K + 1 outputs, images without a label."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.models.abilities import Classifies
from genmodel.models.contract import Batch, Step
from genmodel.models.improved_gan import SemiSupervised
from genmodel.pixels import to_model
from genmodel.sampling.load import load_model
from genmodel.showing.display import Display, train
from genmodel.training.identify import identify
from genmodel.training.step.ema import EMA
from genmodel.training.trainer import Training
from tests.models.improved import ALL, NETWORKS, TRAINING, batch, config, judged, made, noise


@pytest.mark.parametrize("network", NETWORKS)
def test_with_classes_the_loss_is_that_of_k_plus_1(network: str) -> None:
    """Section 5, in float64 from probabilities; labels are learned from those that the memory holds."""
    model, real = made(network, semi_supervised=True), batch()
    assert isinstance(model, SemiSupervised) and isinstance(model, Classifies)
    step = Step(real, noise())
    loss, told = model.updates()[0].loss(step)

    def shares(images: Tensor) -> Tensor:
        _, logits = judged(model, images)
        powers = torch.cat([logits.exp(), torch.ones(len(logits), 1).double()], dim=1)
        return powers / powers.sum(1, keepdim=True)

    rng = noise()
    fake = model.generator(rng.of(model.space, 12))
    labelled = model.memory.draw(12, rng)
    assert (labelled.labels >= 0).all() and set(model.memory.labels.tolist()) == {-1, 0, 1, 2}
    of_class = shares(labelled.images)
    right = of_class[torch.arange(12), labelled.labels] / of_class[:, :3].sum(1)
    unlabelled = -(1 - shares(real.images)[:, -1]).log().mean() - shares(fake)[:, -1].log().mean()
    torch.testing.assert_close(told["loss/class"].double(), -right.log().mean(), rtol=1e-4, atol=1e-5)
    expected = -right.log().mean() + 0.5 * unlabelled
    torch.testing.assert_close(loss.double(), expected, rtol=1e-4, atol=1e-5)
    images = torch.randint(0, 256, (5, 8, 8, 3), dtype=torch.uint8)
    torch.testing.assert_close(model.classify(images).double(), judged(model, to_model(images))[1])


def test_without_a_weight_the_unlabelled_images_teach_it_nothing() -> None:
    gradients = []
    for seed in (0, 1):
        model, real = made(semi_supervised=True, unlabelled_weight=0.0), batch()
        other = Batch(torch.where(real.labels[:, None, None, None] >= 0, real.images, float(seed)), real.labels)
        loss, _ = model.updates()[0].loss(Step(other, noise()))
        loss.backward(inputs=list(model.discriminator.parameters()))
        gradients.append(torch.cat([weight.grad.flatten() for weight in model.discriminator.parameters()]))  # type: ignore[union-attr]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("classes", [0, 1])
def test_classes_cannot_be_learned_of_a_block_without(classes: int) -> None:
    with pytest.raises(
        ConfigError, match=f"needs a block with at least two classes, and this one has {classes}:"
    ) as caught:
        made(classes=classes, semi_supervised=True)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.usefixtures("few_pictures")
def test_samples_and_classes_are_those_of_the_averaged_weights(block: Block, tmp_path: Path) -> None:
    """As a finished model is loaded; what it remembers of the training is not averaged."""
    who = identify("toy", config(training=TRAINING | {"ema_half_life": 100}, **ALL), block)
    folder = train(who, block, tmp_path / "out", tmp_path / "runs")
    training = Training(who, block, folder, "cpu", fresh=False, watcher=Display())
    ema: EMA = training.engine.ema
    loaded, _ = load_model(tmp_path / "out")
    assert isinstance(loaded, SemiSupervised)
    images = torch.from_numpy(block.gather(8, block.rows("val")))
    own = training.model.eval()
    assert isinstance(own, SemiSupervised)
    assert not torch.allclose(own.classify(images), loaded.classify(images))
    assert torch.equal(own.memory.images, loaded.memory.images), "images, not means of images"
    with ema.applied_to(own.averaged), torch.no_grad():
        torch.testing.assert_close(own.classify(images), loaded.classify(images))
        z = noise().of(own.space, 4)
        torch.testing.assert_close(own.sample(z), loaded.sample(z))
