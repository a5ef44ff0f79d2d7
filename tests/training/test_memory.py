"""Memory that is short: a batch in halves, once, with the result of the whole one; then one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.devices import lacks_memory
from genmodel.errors import ConfigError
from genmodel.files import tensors
from genmodel.models.contract import Step, build_model
from genmodel.models.dcgan import DCGAN
from genmodel.models.families import FAMILIES
from genmodel.models.r3gan import R3GAN
from genmodel.models.vae import VAE
from genmodel.showing.display import train
from genmodel.training.identity import Identity
from genmodel.training.step.engine import Engine
from genmodel.training.trainer import run_folder
from tests.training.cutting import cut_short
from tests.training.step.test_engine import ALL, images, toy, weights

# relative, of all weights as one vector, after five steps in float32: sums in another order. Measured: 4e-7
TOLERANCE = 1e-4
PLAIN = [
    ("flow", {}),
    ("pixelcnn", {}),
    ("r3gan", {}),
    ("r3gan", {"augment": ALL}),
    ("vae", {}),
    ("iaf_vae", {"free_bits": 0.0}),
]
# batch normalisation, minibatch discrimination, a floor under the batch's mean rate
MIXING = [("dcgan", {}), ("infogan", {}), ("improved_gan", {}), ("iaf_vae", {}), ("vae", {"free_bits": 0.1})]
Loss = Callable[[Any, Step], tuple[Tensor, dict[str, Tensor]]]


def stepped(family: str, halve: bool, network: dict[str, Any], steps: int = 5) -> Engine:
    config = toy(family, network, batch_size=9)
    engine = Engine(build_model(config, 2), config.training, 1_000)
    if halve:
        engine.halve()
    for number in range(steps):
        batch = images(engine.images_per_step)
        engine.step(batch, torch.arange(len(batch)) % 2, number * engine.images_per_step)
    return engine


@pytest.mark.slow
@pytest.mark.parametrize(("family", "network"), PLAIN)
def test_a_batch_in_halves_gives_the_weights_of_the_whole(family: str, network: dict[str, Any]) -> None:
    """Also where it does not divide: nine images are five and four. Each image keeps its noise, and its fakes."""
    whole, halves = (stepped(family, halve, network) for halve in (False, True))
    assert not whole.mixes and not halves.mixes
    error = float((weights(halves.model) - weights(whole.model)).norm() / weights(whole.model).norm())
    assert error < TOLERANCE, f"{error:.1e}"


@pytest.mark.parametrize(("family", "network"), MIXING)
def test_what_depends_on_the_rest_of_the_batch_is_known(family: str, network: dict[str, Any]) -> None:
    assert stepped(family, True, network, steps=1).mixes


def test_each_family_has_said_what_it_is() -> None:
    assert {family for family, _ in [*PLAIN, *MIXING]} == set(FAMILIES)


class Limit:
    """Memory for `images` at once, from step `after` on."""

    def __init__(self, patch: pytest.MonkeyPatch, family: type, name: str, images: int, after: int = 0) -> None:
        self.tried: list[int] = []
        loss: Loss = getattr(family, name)

        def limited(model: Any, step: Step) -> tuple[Tensor, dict[str, Tensor]]:
            value = loss(model, step)
            self.tried.append(len(step.batch.images))
            if len(step.batch.images) > images and step.noise.rng.initial_seed() % 2**33 >= after:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return value

        patch.setattr(family, name, limited)


def read(folder: Path) -> dict[str, Tensor]:
    return tensors.load(folder / "weights.safetensors")[0]


@pytest.mark.slow
@pytest.mark.fault("out of memory")
@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize(("family", "loss"), [("vae", (VAE, "_loss")), ("r3gan", (R3GAN, "_generator_loss"))])
@pytest.mark.parametrize("after", [0, 13])
def test_a_training_goes_on_with_halves_and_ends_as_it_would(
    family: str, loss: tuple[type, str], after: int, block: Block, toy_identity: Callable[..., Identity],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """In the second update of a step, when the first has changed weights; at the start, and after a checkpoint."""
    identity = toy_identity(family, images=160)
    train(identity, block, tmp_path / "whole", tmp_path / "whole-runs")
    assert "halved" not in json.loads((tmp_path / "whole/config.json").read_text())
    limit = Limit(monkeypatch, *loss, images=4, after=after)
    capsys.readouterr()
    folder = train(identity, block, tmp_path / "model", tmp_path / "runs")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("toy: ", "warning"))]
    back = 80 if after else 0
    assert said == [
        f"toy: out of memory near image {8 * after} with 8 images at once: going back to image {back}, with half as "
        "many, whose gradients are added up"
    ]
    assert limit.tried.count(8) == after + 1 and limit.tried.count(4) == 2 * (20 - back // 8)
    assert json.loads((tmp_path / "model/config.json").read_text())["halved"] is True
    assert run_folder(identity, tmp_path / "runs") == folder, "the same training"
    mine, whole = read(tmp_path / "model"), read(tmp_path / "whole")
    assert mine.keys() == whole.keys()
    for name, value in mine.items():
        assert float((value - whole[name]).norm() / whole[name].norm()) < TOLERANCE, name
    rows = [[json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
            for path in (folder, run_folder(identity, tmp_path / "whole-runs"))]  # fmt: skip
    assert [row["order"] for row in rows[0]] == [row["order"] for row in rows[1]] != []


@pytest.mark.slow
@pytest.mark.fault("out of memory")
@pytest.mark.usefixtures("few_pictures")
def test_a_family_that_normalises_over_the_batch_says_that_the_result_is_another(
    block: Block, toy_identity: Callable[..., Identity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    Limit(monkeypatch, DCGAN, "_generator_loss", images=4)
    train(toy_identity("dcgan", images=32), block, tmp_path / "model", tmp_path / "runs")
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith(("toy: ", "warning"))]
    assert len(said) == 2 and said[1].startswith("warning: toy: with half as many images at once it does not become")


@pytest.mark.slow
@pytest.mark.fault("out of memory")
@pytest.mark.usefixtures("few_pictures")
def test_memory_that_is_short_for_halves_too_is_one_line_also_for_a_resume(
    block: Block, toy_identity: Callable[..., Identity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = toy_identity("vae", images=160)
    with monkeypatch.context() as patch:
        Limit(patch, VAE, "_loss", images=4)
        cut_short(identity, block, tmp_path / "runs", 80)
    limit = Limit(monkeypatch, VAE, "_loss", images=2)
    with pytest.raises(ConfigError) as caught:
        train(identity, block, tmp_path / "model", tmp_path / "runs")
    assert str(caught.value) == (
        "toy: out of memory near image 80 with 4 images at once: lower training.batch_size (8), raise "
        "training.accumulate (1) above 2, or make the network smaller"
    )
    assert limit.tried == [4], "what was halved once stays so, and is not halved again"
    assert not (tmp_path / "model").exists()


def test_which_errors_are_about_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**15)
    assert lacks_memory(caught.value) and lacks_memory(MemoryError()) and lacks_memory(torch.OutOfMemoryError())
    hidden = RuntimeError("operation failed due to a previous error during capture")
    hidden.__context__ = torch.OutOfMemoryError()
    assert lacks_memory(hidden) and not lacks_memory(RuntimeError("shapes do not match"))
