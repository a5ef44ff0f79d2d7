"""Each technique against an independent version of its formula; what is off is not there; few labels, resumes, two
processes, export."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.files import tensors
from genmodel.models.abilities import Classifies
from genmodel.models.contract import Step
from genmodel.models.improved_gan import ImprovedGAN, SemiSupervised
from genmodel.models.parts.improved_gan.virtual_batch_norm import VirtualBatchNorm
from genmodel.params import run_config
from genmodel.sampling.draw import Sampler
from genmodel.sampling.export import export_onnx
from genmodel.sampling.requests import codes
from genmodel.showing.display import Display, train
from genmodel.training.checkpoint import Checkpoints
from genmodel.training.identify import identify
from genmodel.training.trainer import Training, run_folder
from tests.models.improved import ALL, NETWORKS, SMALL, TRAINING, batch, config, judged, made, noise
from tests.training.together import train_by_two


def fakes(model: ImprovedGAN, n: int) -> Tensor:
    """Those of a step with `noise()`."""
    return model.generator(noise().of(model.space, n))


@pytest.mark.parametrize("network", NETWORKS)
def test_with_all_off_it_is_a_plain_gan(network: str) -> None:
    model, real = made(network), batch()
    assert not isinstance(model, Classifies) and not any(isinstance(each, VirtualBatchNorm) for each in model.modules())
    assert {name.partition(".")[0] for name in model.state_dict()} == {"generator", "discriminator"}
    fake = fakes(model, 12)
    (_, on_real), (_, on_fake) = judged(model, real.images), judged(model, fake)
    assert on_real.shape == (12, 1)
    step = Step(real, noise())
    loss, told = model.updates()[0].loss(step)
    expected = F.binary_cross_entropy_with_logits(on_real, torch.ones(12, 1).double())
    expected = expected + F.binary_cross_entropy_with_logits(on_fake, torch.zeros(12, 1).double())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    assert told.keys() == {"loss/discriminator", "score/real", "score/fake"}
    loss, told = model.updates()[1].loss(step)
    expected = F.binary_cross_entropy_with_logits(on_fake, torch.ones(12, 1).double())
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)
    assert told.keys() == {"loss/generator"}


@pytest.mark.parametrize("network", NETWORKS)
def test_feature_matching_takes_the_last_hidden_layer(network: str) -> None:
    model, real = made(network, feature_matching=True), batch()
    fake = fakes(model, 12)
    loss, _ = model.updates()[1].loss(Step(real, noise()))
    means = [judged(model, images)[0].mean(0) for images in (real.images, fake)]
    torch.testing.assert_close(loss.double(), (means[0] - means[1]).square().mean(), rtol=1e-5, atol=1e-8)
    hidden: list[Tensor] = []
    model.discriminator.hidden[-1].register_forward_hook(lambda _, __, output: hidden.append(output.flatten(1)))
    features, logits = judged(model, real.images)
    torch.testing.assert_close(hidden[0].double(), features)
    head = model.discriminator.head
    weight = head.scale[:, None] * head.layer.weight / head.layer.weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(logits.float(), F.linear(hidden[0], weight, head.layer.bias), rtol=1e-4, atol=1e-5)


def test_smoothing_changes_the_loss_of_real_images_alone() -> None:
    model, real = made(real_target=0.9), batch()
    (_, on_real), (_, on_fake) = judged(model, real.images), judged(model, fakes(model, 12))
    expected = F.binary_cross_entropy_with_logits(on_real, torch.full((12, 1), 0.9).double())
    expected = expected + F.binary_cross_entropy_with_logits(on_fake, torch.zeros(12, 1).double())
    loss, _ = model.updates()[0].loss(Step(real, noise()))
    torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("semi_supervised", [False, True])
@pytest.mark.parametrize("place", [0, 1])
def test_historical_averaging_adds_the_distance_to_the_mean_of_the_past(place: int, semi_supervised: bool) -> None:
    """Each player's own, at each of its updates."""
    plain, model = (made(semi_supervised=semi_supervised, historical_averaging=weight) for weight in (0.0, 0.7))
    real = batch()
    player = model.updates()[place].player
    (own,) = (each for each in model.players() if each.name == player)
    rng, past = torch.Generator().manual_seed(0), []
    for _ in range(3):
        with torch.no_grad():
            for weight, other in zip(model.parameters(), plain.parameters(), strict=True):
                weight.add_(0.1 * torch.randn(weight.shape, generator=rng))
                other.copy_(weight)
        past.append(torch.cat([weight.detach().double().flatten() for weight in own.parameters()]))
        loss, told = model.updates()[place].loss(Step(real, noise()))
        without, _ = plain.updates()[place].loss(Step(real, noise()))
        distance = (past[-1] - torch.stack(past).mean(0)).square().sum()
        torch.testing.assert_close(told[f"loss/{player}_history"].double(), distance, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(loss.double(), without.double() + 0.7 * distance, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_with_virtual_batch_norm_an_image_is_the_same_in_training_whatever_its_batch(network: str) -> None:
    z = noise().of(made(network).space, 6)
    model = made(network, virtual_batch_norm=True).train()
    torch.testing.assert_close(model.sample(z)[4:5], model.sample(z[4:5]), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(model.eval().sample(z[:2]), model.train().sample(z)[:2], rtol=1e-4, atol=1e-5)
    plain = made(network).train()
    assert not torch.allclose(plain.sample(z)[4:5], plain.sample(z[3:5])[1:], atol=1e-3)
    assert model.generator.reference.abs().max() > 0.9 and model.generator.reference.unique().numel() > 100


@pytest.mark.parametrize("network", NETWORKS)
def test_minibatch_discrimination_shows_a_batch_of_equal_images(network: str) -> None:
    """Logits of an image depend on its batch; beside all others on it alone, however many a user's batch holds."""
    model, real = made(network, minibatch_discrimination=True), batch()
    model.begin(real)
    _, mixed = judged(model, real.images)
    _, equal = judged(model, real.images[:1].expand(12, -1, -1, -1))
    assert not torch.allclose(mixed[0], equal[0], atol=1e-2)
    plain = made(network)
    torch.testing.assert_close(judged(plain, real.images)[1][:2], judged(plain, real.images[:2])[1])
    both = made(network, minibatch_discrimination=True, semi_supervised=True)
    assert isinstance(both, SemiSupervised)
    both.begin(real)
    before = both.discriminator.minibatch.usual.clone()  # type: ignore[union-attr]
    both.updates()[0].loss(Step(real, noise()))
    assert not torch.equal(both.discriminator.minibatch.usual, before)  # type: ignore[union-attr]
    images = torch.randint(0, 256, (9, 8, 8, 3), dtype=torch.uint8)
    both.eval()
    torch.testing.assert_close(both.classify(images)[3:4], both.classify(images[3:4]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_first_images_set_the_scale_of_every_layer(network: str) -> None:
    """Each layer's output before its nonlinearity has mean 0 and variance 1 over them."""
    model, real = made(network), batch(200)
    seen: dict[str, Tensor] = {}
    model.begin(real)
    for name, layer in model.discriminator.named_modules():
        if type(layer).__name__ == "WeightNorm":
            layer.register_forward_hook(lambda _, __, output, name=name: seen.update({name: output.clone()}))
    model.discriminator(real.images, None)
    assert len(seen) == len(model.discriminator.hidden) + 1
    for name, output in seen.items():
        over = (0, *range(2, output.ndim))
        torch.testing.assert_close(output.mean(over), torch.zeros(output.shape[1]), rtol=0, atol=1e-3, msg=name)
        torch.testing.assert_close(output.std(over), torch.ones(output.shape[1]), rtol=0, atol=1e-2, msg=name)


@pytest.mark.parametrize("network", NETWORKS)
def test_noise_is_added_to_pixels_and_to_each_hidden_layer_but_not_where_it_classifies(network: str) -> None:
    model, real = made(network, pixel_noise=0.3, feature_noise=0.5), batch(4)
    inputs: list[Tensor] = []
    for layer in [*model.discriminator.hidden, model.discriminator.head]:
        layer.register_forward_pre_hook(lambda _, given: inputs.append(given[0]))
    model.discriminator(real.images, None)
    quiet, inputs[:] = list(inputs), []
    torch.testing.assert_close(quiet[0], (real.images + 1) / 2)
    model.discriminator(real.images, Step(real, noise()))
    noised = list(inputs)
    assert len(noised) == len(model.discriminator.hidden) + 1
    assert (noised[0] - quiet[0]).std().item() == pytest.approx(0.3, rel=0.1)
    for place, layer in enumerate(model.discriminator.hidden):
        added = noised[place + 1] - layer(noised[place]).flatten(1).view_as(noised[place + 1])
        assert added.std().item() == pytest.approx(0.5, rel=0.5) and added.unique().numel() == added.numel()


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("network.network=dense", "network.network: must be one of convolutional, fully_connected, not 'dense'"),
        ("network=dense", "must be one of convolutional, fully_connected, not 'dense'"),
        ("real_target=0.2", "network.real_target: must be between 0.5 and 1"),
        ("minibatch_kernels=0", "network.minibatch_kernels: must be at least 1"),
        ("historical_averaging=-1", "network.historical_averaging: must be at least 0"),
        ("semi_supervised=yes", "network.semi_supervised: must be true or false, not 'yes'"),
        ("feature_match=true", "did you mean 'feature_matching'"),
    ],
)
def test_a_wrong_setting_is_one_line(setting: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        run_config({"family": "improved_gan", "image_size": 8}, "toy", [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["network=fully_connected", "network.network=fully_connected"])
def test_the_network_is_set_by_its_short_name_too(setting: str) -> None:
    network = run_config({"family": "improved_gan", "network": {"width": 8}}, "toy", [setting]).network
    assert (network.network, network.width) == ("fully_connected", 8)


@pytest.mark.slow
@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize("network", NETWORKS)
def test_with_all_on_a_training_that_is_cut_short_ends_the_same(network: str, block: Block, tmp_path: Path) -> None:
    """Memory, histories, reference batch and running means go on where they were."""

    def remains(runs: Path, out: Path) -> dict[str, bytes]:
        checkpoint, _ = Checkpoints(run_folder(who, runs) / "checkpoints").latest()
        assert checkpoint is not None
        found = {name: value.numpy().tobytes() for name, value in checkpoint.tensors.items()}
        return found | {path.name: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    who = identify("toy", config(network, TRAINING, **ALL), block)
    train(who, block, tmp_path / "whole", tmp_path / "runs1")
    cut = Training(who, block, run_folder(who, tmp_path / "runs"), "cpu", fresh=False, watcher=Display())
    while cut.images_seen < 112:
        cut.step()
        cut.record_and_save()
    cut.checkpoints.wait()
    train(who, block, tmp_path / "out", tmp_path / "runs")
    ended = remains(tmp_path / "runs", tmp_path / "out")
    assert ended == remains(tmp_path / "runs1", tmp_path / "whole")
    assert {"model.memory.images", "model.histories.generator.mean", "weights.safetensors"} < ended.keys()


def words(network: str, block: Block, folder: Path) -> list[str]:
    chosen = {"network.network": network, **SMALL, **ALL, **TRAINING, "image_size": 8, "images": 160, "accumulate": 2}
    settings = [word for name, value in chosen.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    places = ["--data", str(block.path), "--out", str(folder / "model"), "--runs", str(folder / "runs")]
    return ["train", "improved_gan", *places, "--device", "cpu", *settings]


@pytest.mark.slow
def test_two_processes_train_what_one_trains(block: Block, tmp_path: Path) -> None:
    """With all on: distances to the images of the other process, means of features over both, one memory."""
    from genmodel.cli import main

    train_by_two(*(words(network, block, tmp_path / "two" / network) for network in NETWORKS))
    for network in NETWORKS:
        main(words(network, block, tmp_path / "one" / network))
        weights, _ = tensors.load(tmp_path / "two" / network / "model/weights.safetensors")
        expected, _ = tensors.load(tmp_path / "one" / network / "model/weights.safetensors")
        for name, value in weights.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4, msg=name)
        labels = expected["memory.labels"]
        assert (labels >= 0).all() and len(labels) == 8


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "chosen"),
    [("fully_connected", {}), ("convolutional", {"virtual_batch_norm": True, "semi_supervised": True})],
)
def test_as_onnx_it_draws_the_same_images(network: str, chosen: dict[str, Any], tmp_path: Path) -> None:
    model = made(network, **chosen).eval().requires_grad_(False)
    for weight in model.generator.parameters():
        weight.mul_(3)
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession((tmp_path / "model.onnx").read_bytes(), providers=["CPUExecutionProvider"])
    for n in (1, 5):
        asked = codes(model.space, [], n, seed=n)
        (images,) = session.run(["images"], {"codes": asked.numpy()})
        expected = Sampler(model)(asked).numpy()
        assert images.shape == expected.shape == (n, 8, 8, 3)
        assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1
        assert len(np.unique(expected)) > 20
