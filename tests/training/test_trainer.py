import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from genmodel.data.block import Block
from genmodel.errors import CheckpointError, SettingsChangedError, TrainingDivergedError
from genmodel.files import tensors
from genmodel.models.families import FAMILIES
from genmodel.models.parts import convolution
from genmodel.params import run_config
from genmodel.settings.config import RunConfig
from genmodel.showing.display import train
from genmodel.training import trainer
from genmodel.training.checkpoint import Checkpoints
from genmodel.training.identify import identify
from genmodel.training.identity import Identity
from genmodel.training.trainer import Training
from tests.small import network_of
from tests.training.cutting import cut_short

SHORT = {"images": 160, "checkpoint_every": 40}
TRAINING = {"images": 320, "batch_size": 8, "log_every": 40, "checkpoint_every": 80, "threads": 1, "flip": False}


def toy(family: str = "dcgan", **training: object) -> RunConfig:
    network = network_of(family, base_channels=4, latent_dim=6, blocks=1, halvings=0, steps=2)
    return run_config({"family": family, "image_size": 8, "network": network, "training": TRAINING | training}, "toy")


def folder_bytes(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(params=["fp32", "bf16"])
def precision(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """In bf16 as on a CPU without AMX, where weights' gradients are products of matrices."""
    monkeypatch.setattr(convolution, "_bf16_without_amx", lambda: True)
    return str(request.param)


@pytest.fixture(scope="module")
def whole(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Identity], dict[str, bytes]]:
    """whole(identity) -> what a training publishes that nobody stops; of each identity there is one."""
    made: dict[str, dict[str, bytes]] = {}

    def train_once(identity: Identity) -> dict[str, bytes]:
        if identity.fingerprint not in made:
            folder = tmp_path_factory.mktemp("whole")
            train(identity, block, folder / "out", folder / "runs")
            made[identity.fingerprint] = folder_bytes(folder / "out")
        return made[identity.fingerprint]

    return train_once


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_equal_inputs_give_equal_folders(
    family: str, precision: str, block: Block, tmp_path: Path, whole: Callable[[Identity], dict[str, bytes]]
) -> None:
    identity = identify("toy", toy(family, precision=precision, **SHORT), block)
    first = whole(identity)
    train(identity, block, tmp_path / "two", tmp_path / "runs")
    assert first == folder_bytes(tmp_path / "two")
    assert {"weights.safetensors", "config.json", "history.csv", "timeline.png", "replay.gif"} < first.keys()
    other = identify("toy", toy(family, precision=precision, seed=1, **SHORT), block)
    train(other, block, tmp_path / "three", tmp_path / "runs")
    assert folder_bytes(tmp_path / "three")["weights.safetensors"] != first["weights.safetensors"]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("precision", "stop_at"),
    [("fp32", 8), ("fp32", 40), ("fp32", 64), ("bf16", 64), ("fp32", 152)],
    indirect=["precision"],
)
def test_a_resumed_training_ends_the_same(
    family: str,
    precision: str,
    stop_at: int,
    block: Block,
    tmp_path: Path,
    whole: Callable[[Identity], dict[str, bytes]],
) -> None:
    """Stopped anywhere, whether at a checkpoint, after one, or before the first."""
    identity = identify("toy", toy(family, precision=precision, **SHORT), block)
    runs = tmp_path / "runs"
    cut_short(identity, block, runs, stop_at)
    train(identity, block, tmp_path / "resumed", runs)
    assert folder_bytes(tmp_path / "resumed") == whole(identity)


SCRIPT = """
import sys
from pathlib import Path
from typing import Any
import torch
torch.set_num_threads(1)
from genmodel.params import run_config
from genmodel.data.block import Block
from genmodel.training.identify import identify
from genmodel.showing.display import Display, train
import json
data, out, runs, config = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
block = Block.open(data)
train(identify("toy", run_config(config, "toy"), block), block, out, runs)
"""


@pytest.mark.slow
def test_kill_dash_nine_and_the_same_command_again(block: Block, tmp_path: Path) -> None:
    config = toy("dcgan", images=4_800, checkpoint_every=160, log_every=400)
    whole = identify("toy", config, block)
    train(whole, block, tmp_path / "whole", tmp_path / "whole-runs")
    command = [sys.executable, "-c", SCRIPT, str(block.path), str(tmp_path / "out"), str(tmp_path / "runs")]
    command.append(json.dumps(config.as_dict()))
    checkpoints = trainer.run_folder(whole, tmp_path / "runs") / "checkpoints"
    for wanted in (1, 3):
        process = subprocess.Popen(command, env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])})
        deadline = time.monotonic() + 60
        while len(list(checkpoints.glob("*.json"))) < min(wanted, 2) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "the training ended before it was killed"
    assert not (tmp_path / "out").exists()
    train(whole, block, tmp_path / "out", tmp_path / "runs")
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "whole")


@pytest.mark.slow
def test_the_record_has_no_gap_and_no_duplicate_after_a_resume(block: Block, tmp_path: Path) -> None:
    identity = identify("toy", toy(), block)
    cut = cut_short(identity, block, tmp_path, 136)  # past rows that the last checkpoint, at 80, does not know
    folder = train(identity, block, tmp_path / "out", tmp_path)
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["images_seen"] for row in rows] == list(range(40, 321, 40))
    assert all(row["metrics"]["throughput/images_per_second"] > 0 for row in rows)
    assert all(row["order"] == cut.loader.order_digest(row["images_seen"]) for row in rows)
    assert sum(value for name, value in rows[-1]["metrics"].items() if name.startswith("time/")) == pytest.approx(1)
    header, *lines = (tmp_path / "out" / "history.csv").read_text().splitlines()
    losses = "gradient/discriminator,gradient/generator,loss/discriminator,loss/generator,score/fake,score/real"
    assert header == f"images_seen,step,{losses},health/bad_steps"
    assert len(lines) == 8


@pytest.mark.slow
def test_samples_at_powers_of_two_and_at_equal_distances(block: Block, tmp_path: Path) -> None:
    identity = identify("toy", toy(images=1024), block)
    train(identity, block, tmp_path / "out", tmp_path)
    drawn = sorted(int(path.stem) for path in (tmp_path / "out" / "samples").iterdir())
    assert drawn == [0, 8, 16, *range(32, 1025, 32)]


@pytest.mark.slow
def test_a_finished_training_is_only_published_again(
    block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    identity = identify("toy", toy(), block)
    folder = train(identity, block, tmp_path / "out", tmp_path)
    before = folder_bytes(tmp_path / "out"), (folder / "metrics.jsonl").read_bytes()
    monkeypatch.setattr(Training, "step", lambda self: pytest.fail("a finished training has no steps left"))
    train(identity, block, tmp_path / "out", tmp_path)
    assert (folder_bytes(tmp_path / "out"), (folder / "metrics.jsonl").read_bytes()) == before


@pytest.mark.slow
def test_fresh_forgets_and_trains_anew(block: Block, tmp_path: Path) -> None:
    identity = identify("toy", toy(), block)
    folder = train(identity, block, tmp_path / "out", tmp_path)
    first = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    train(identity, block, tmp_path / "out", tmp_path, fresh=True)
    again = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert again["time_ms"] > first["time_ms"]
    assert again["metrics"]["loss/generator"] == first["metrics"]["loss/generator"]


@pytest.mark.slow
def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = identify("toy", toy(), block)
    train(identity, block, tmp_path / "whole", tmp_path / "whole-runs")
    cut = cut_short(identity, block, tmp_path, 200)
    newest = sorted(cut.checkpoints.folder.glob("*.safetensors"))[-1]
    content = bytearray(newest.read_bytes())
    content[-5] ^= 4
    newest.write_bytes(content)
    train(identity, block, tmp_path / "out", tmp_path)
    assert f"checkpoint {newest.name} is damaged" in capsys.readouterr().err
    assert folder_bytes(tmp_path / "out") == folder_bytes(tmp_path / "whole")


def test_other_settings_in_the_same_folder_are_refused(block: Block, tmp_path: Path) -> None:
    identity = identify("toy", toy(), block)
    Training(identity, block, tmp_path / "run", "cpu", fresh=False).checkpoints.wait()
    other = identify("toy", toy(batch_size=16), block)
    with pytest.raises(
        SettingsChangedError, match=r"another training \(training.batch_size: 8 -> 16\): move it away and run again"
    ):
        Training(other, block, tmp_path / "run", "cpu", fresh=False)
    more = replace(identify("toy", toy(seed=3, images=80), block), block="f" * 64)
    with pytest.raises(SettingsChangedError) as caught:
        Training(more, block, tmp_path / "run", "cpu", fresh=False)
    changes = f"(block: {block.digest[:8]} -> ffffffff; training.images: 320 -> 80; training.seed: 0 -> 3)"
    assert str(caught.value) == f"{tmp_path / 'run'} belongs to another training {changes}: move it away and run again"
    Training(replace(identity, name="renamed"), block, tmp_path / "run", "cpu", fresh=False).checkpoints.wait()
    assert Training(other, block, tmp_path / "run", "cpu", fresh=True).images_seen == 0


def test_damaged_facts_of_a_run_are_told(block: Block, tmp_path: Path) -> None:
    identity = identify("toy", toy(), block)
    Training(identity, block, tmp_path, "cpu", fresh=False)
    whole = (tmp_path / "identity.json").read_text()
    for damaged in ("", whole[:-20], whole.replace("config", "confic"), "[1]"):
        (tmp_path / "identity.json").write_text(damaged)
        with pytest.raises(CheckpointError, match=r"identity.json is damaged: remove it and run the same command"):
            Training(identity, block, tmp_path, "cpu", fresh=False)


def test_the_fingerprint_follows_settings_data_and_code(block: Block) -> None:
    identity = identify("toy", toy(), block)
    assert identity.fingerprint == identify("renamed", toy(), block).fingerprint
    changed = [
        identify("toy", toy(seed=1), block),
        replace(identity, block="another"),
        replace(identity, code="another"),
    ]
    assert len({other.fingerprint for other in [identity, *changed]}) == 4


def test_a_loss_that_is_no_number_stops_the_training(block: Block, tmp_path: Path) -> None:
    network = {"base_channels": 4, "latent_dim": 6, "learning_rate": 1e9}
    config = run_config({"family": "vae", "image_size": 8, "network": network, "training": TRAINING}, "toy")
    with pytest.raises(TrainingDivergedError, match=r"not finite near image .* even with lower learning rates"):
        train(identify("toy", config, block), block, tmp_path / "out", tmp_path)
    assert list(tmp_path.glob("*/curves.png"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_published_weights_are_the_averaged_ones(block: Block, tmp_path: Path) -> None:
    identity: Identity = identify("toy", toy(), block)
    folder = train(identity, block, tmp_path / "out", tmp_path)
    checkpoint, _ = Checkpoints(folder / "checkpoints").latest()
    assert checkpoint is not None
    weights, _ = tensors.load(tmp_path / "out" / "weights.safetensors")
    name = "project.weight"
    torch.testing.assert_close(weights[f"generator.{name}"], checkpoint.tensors[f"ema.{name}"])
    assert not torch.equal(weights[f"generator.{name}"], checkpoint.tensors[f"model.generator.{name}"])


@pytest.mark.slow
def test_two_trainings_in_one_folder_are_refused_and_the_first_goes_on(
    block: Block, tmp_path: Path, in_child: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    identity = identify("toy", toy(images=64), block)
    again = partial(train, identity, block, tmp_path / "out", tmp_path / "runs")

    def second_in_the_middle(real: Callable[..., None], *arguments: Any) -> None:
        assert in_child(again) == 1
        real(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        real = Training.finish
        patch.setattr(Training, "finish", lambda *arguments: second_in_the_middle(real, *arguments))
        folder = again()
    assert (
        f"StorageError: {folder} is in use by another process: wait until it ends, or stop it" in capfd.readouterr().err
    )
    assert (tmp_path / "out/config.json").exists()
    assert in_child(again) == 0, "the lock ended with the training"


@pytest.mark.parametrize("asked", ["fp32", "bf16"])
def test_bf16_on_a_cpu_without_it_is_told_before_the_first_step(
    asked: str, block: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "lacks_bf16", lambda device: device == "cpu")
    train(identify("toy", toy(precision=asked, images=8), block), block, tmp_path / "out", tmp_path / "runs")
    assert ("this CPU has no instructions for bf16" in capsys.readouterr().err) is (asked == "bf16")
