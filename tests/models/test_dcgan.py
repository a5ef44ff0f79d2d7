"""DCGAN, conditional by one setting: labels reach both networks, and one that is withheld reaches neither."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from genmodel.errors import ConfigError
from genmodel.models.contract import Batch, Family, Noise, Step, build_model
from genmodel.models.dcgan import DCGAN
from genmodel.models.parts.labels import labels_for_fakes
from genmodel.params import run_config
from genmodel.sampling.draw import Sampler, codes
from genmodel.sampling.export import export_onnx
from genmodel.settings.config import RunConfig
from genmodel.training.step.engine import Engine

CLASSES = 3


def config(**network: Any) -> RunConfig:
    network = {"base_channels": 8, "latent_dim": 6, "conditional": True, **network}
    training = {"batch_size": 32, "ema_half_life": 0}
    return run_config({"family": "dcgan", "image_size": 8, "network": network, "training": training}, "toy")


def made(**network: Any) -> DCGAN:
    model = build_model(config(**network), CLASSES)
    assert isinstance(model, DCGAN)
    return model


def given(labels: Tensor, seed: int = 0) -> Step:
    images = torch.rand(len(labels), 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return Step(Batch(images, labels), Noise(torch.Generator().manual_seed(seed)), {"augmentation": torch.tensor(0.0)})


def test_an_image_is_of_the_class_that_is_asked_for() -> None:
    model = made().eval()
    z = Noise(torch.Generator().manual_seed(0)).of(model.space, 4)
    assert model.classes == CLASSES
    images = [model.sample(z, torch.full((4,), label)) for label in range(CLASSES)]
    assert not torch.equal(images[0], images[1])
    torch.testing.assert_close(model.sample(z, torch.tensor([0, 1, 2, 0]))[1], images[1][1])


def test_the_logit_is_that_of_miyato_and_koyama() -> None:
    """With labels: psi(phi(x)) + <V y, phi(x)>, phi summed over the map; without: psi(phi(x))."""
    discriminator = made().eval().discriminator
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([2, -1, 0, 2])
    found = discriminator(images, labels)
    assert discriminator.embedding is not None
    phi = discriminator.layers[:-1](images)
    psi = discriminator.layers[-1](phi)[:, 0, 0, 0]
    table = discriminator.embedding.weight
    expected = [psi[i] + (table[label] @ phi[i].sum((1, 2)) if label >= 0 else 0) for i, label in enumerate(labels)]
    torch.testing.assert_close(found, torch.stack(expected))  # type: ignore[arg-type]
    torch.testing.assert_close(discriminator(images, torch.full((4,), -1)), psi)
    assert not torch.allclose(found[0], psi[0], rtol=1e-3)


def test_fakes_get_the_batchs_labels_and_any_where_one_is_withheld() -> None:
    labels = torch.tensor([0, -1, 2, -1] * 200)
    found = labels_for_fakes(labels, CLASSES, Noise(torch.Generator().manual_seed(0)))
    assert torch.equal(found[labels >= 0], labels[labels >= 0])
    assert torch.bincount(found[labels < 0], minlength=CLASSES).min() > 90
    halves = [
        labels_for_fakes(
            labels[400 * rank : 400 * rank + 400], CLASSES, Noise(torch.Generator().manual_seed(0), rank, 2)
        )
        for rank in range(2)
    ]
    assert torch.equal(torch.cat(halves), found), "whatever the number of processes"


def test_a_withheld_label_teaches_the_discriminator_no_class() -> None:
    model = made()
    update = model.updates()[0]
    embedding = model.discriminator.embedding
    assert embedding is not None
    for labels, taught in ((torch.tensor([1, 1, 1, 1]), {1}), (torch.tensor([-1, -1, 2, -1]), {2})):
        loss, _ = update.loss(given(labels))
        (slopes,) = torch.autograd.grad(loss, embedding.weight)
        assert {row for row in range(CLASSES) if slopes[row].any()} == taught
    loss, _ = update.loss(given(torch.full((4,), -1)))
    (slopes,) = torch.autograd.grad(loss, embedding.weight, allow_unused=True)
    assert slopes is None or not slopes.any()


@pytest.mark.slow
def test_it_learns_which_class_is_which() -> None:
    """Images of one shade a class, of two thirds of which the class is withheld: dark, medium and bright."""
    settings = config(generator_learning_rate=2e-3, discriminator_learning_rate=2e-3)
    model = build_model(settings, CLASSES)
    engine = Engine(model, settings.training, budget=100_000)
    rng = torch.Generator().manual_seed(0)
    for number in range(250):
        shades = torch.randint(CLASSES, (32,), generator=rng)
        images = (shades * 90 + 30)[:, None, None, None].expand(-1, 8, 8, 3).to(torch.uint8)
        told = torch.where(torch.rand(32, generator=rng) < 1 / 3, shades, -1)
        engine.step(images, told, number * 32)
    z = Noise(torch.Generator().manual_seed(1)).of(model.space, 16)
    with torch.no_grad():
        means = [float(model.eval().sample(z, torch.full((16,), label)).mean()) for label in range(CLASSES)]
    assert means == pytest.approx([30 / 127.5 - 1, 120 / 127.5 - 1, 210 / 127.5 - 1], abs=0.25)


@pytest.mark.slow
def test_onnx_draws_the_same_images_of_each_class(built: Callable[..., Family], tmp_path: Path) -> None:
    model = built("dcgan", base_channels=8, conditional=True)
    export_onnx(model, tmp_path / "model.onnx")
    rows = codes(model.space, [1.0] * model.classes, 20, seed=0)
    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    (images,) = session.run(["images"], {"codes": rows.numpy()})
    assert np.abs(images.astype(int) - Sampler(model)(rows).numpy().astype(int)).max() <= 1


@pytest.mark.parametrize(("classes", "has"), [(0, "none"), (1, "1")])
def test_a_block_without_classes_is_refused_in_one_line(classes: int, has: str) -> None:
    with pytest.raises(ConfigError, match=f"classes of a block that has {has}: set network.conditional to false, or"):
        build_model(config(), classes)
    assert build_model(config(conditional=False), classes).classes == 0
