"""Two gloo processes train what one trains; either goes on where the other stopped."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.files import tensors
from genmodel.training.record import _TIMED
from genmodel.training.trainer import Training
from tests.training.together import environment, processes, train_by_two

# relative, in float32 over 20 steps from equal weights: sums in another order. Measured: 2e-6
TOLERANCE = 1e-4
SETTINGS = ["image_size=8", "base_channels=4", "latent_dim=6", "batch_size=8", "threads=1", "ema_half_life=20"]
HARD = {  # all that shares a batch out: several passes and parts, noise in each, second gradients through the norm
    "dcgan": [
        *("discriminator_steps=2", "accumulate=2", "r1=1", "clip_norm=1", "images=320"),
        *("augment.translate=0.25", "augment.geometry=1", "augment.probability=0.7", "conditional=true"),
    ],
    "iaf_vae": ["accumulate=2", "images=160", "blocks=1", "free_bits=20", "conditional=true"],
    "infogan": ["accumulate=2", "images=160", "hidden=16"],
    "r3gan": [
        *("conditional=true", "labelled=9", "gamma=1", "accumulate=2", "images=160"),
        *("augment.translate=0.25", "augment.geometry=1", "augment.probability=0.7"),
    ],
    "vae": ["accumulate=2", "images=160", "free_bits=0.1", "likelihood=mixture", "conditional=true", "labelled=9"],
}

pytestmark = pytest.mark.slow


def words(family: str, block: Block, folder: Path, settings: list[str]) -> list[str]:
    """The arguments of a training that leaves its model and its run in `folder`."""
    chosen = [word for setting in [*SETTINGS, *settings] for word in ("--set", setting)]
    places = ["--data", str(block.path), "--out", str(folder / "model"), "--runs", str(folder / "runs")]
    return ["train", family, *places, "--device", "cpu", *chosen]


def torchrun(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    command += ["--nproc-per-node", "2", "-m", "genmodel.cli", *arguments]
    return subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)


def rows(folder: Path) -> list[dict[str, Any]]:
    (metrics,) = folder.glob("runs/*/metrics.jsonl")
    return [json.loads(line) for line in metrics.read_text().splitlines()]


def assert_alike(folder: Path, whole: Path) -> None:
    """The same images in the same order; losses, scores, gradients and averaged weights within TOLERANCE."""
    mine, theirs = rows(folder), rows(whole)
    for key in ("step", "images_seen", "order"):
        assert [row[key] for row in mine] == [row[key] for row in theirs]
    for row, other in zip(mine, theirs, strict=True):
        metrics, expected = (
            {name: value for name, value in each["metrics"].items() if not name.startswith(_TIMED)}
            for each in (row, other)
        )
        assert metrics == pytest.approx(expected, rel=TOLERANCE)
    weights, _ = tensors.load(folder / "model" / "weights.safetensors")
    expected_weights, _ = tensors.load(whole / "model" / "weights.safetensors")
    assert weights.keys() == expected_weights.keys()
    for name, value in weights.items():
        error = (value - expected_weights[name]).double().norm() / expected_weights[name].double().norm()
        assert error < TOLERANCE, f"{name}: {error:.1e}"


@pytest.fixture(scope="module")
def by_two(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each family, trained by two processes."""
    folder = tmp_path_factory.mktemp("two")
    train_by_two(*(words(family, block, folder / family, [*HARD[family], "log_every=32"]) for family in HARD))
    return folder


@pytest.mark.parametrize("family", HARD)
def test_two_processes_train_what_one_trains(family: str, by_two: Path, block: Block, tmp_path: Path) -> None:
    main(words(family, block, tmp_path, [*HARD[family], "log_every=32"]))
    assert_alike(by_two / family, tmp_path)


def test_torchrun_starts_two_that_leave_one_model(block: Block, tmp_path: Path) -> None:
    done = torchrun(words("vae", block, tmp_path, ["images=32", "log_every=32"]))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("weights.safetensors") == 1
    assert (tmp_path / "model/weights.safetensors").exists() and len(rows(tmp_path)) == 1


def test_two_go_on_where_one_stopped(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut after a checkpoint in the middle: the rows and the steps since then are made again."""
    settings = ["images=160", "log_every=24", "checkpoint_every=64"]
    main(words("dcgan", block, tmp_path / "one", settings))
    keep = Training.record_and_save

    def cut(training: Training) -> None:
        keep(training)
        if training.images_seen == 112:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Training, "record_and_save", cut)
        with pytest.raises(SystemExit):
            main(words("dcgan", block, tmp_path / "two", settings))
    both = processes("-m", "genmodel.cli", *words("dcgan", block, tmp_path / "two", settings))
    said = [process.communicate(timeout=240)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert "".join(said).count("resuming at 64 images") == 1
    assert_alike(tmp_path / "two", tmp_path / "one")


def test_one_goes_on_where_two_were_stopped(block: Block, tmp_path: Path) -> None:
    """A SIGTERM that reaches the second process alone ends both after the same step, with one checkpoint."""
    arguments = words("vae", block, tmp_path, ["images=8000", "log_every=16", "checkpoint_every=100000"])
    both = processes("-m", "genmodel.cli", *arguments)
    deadline = time.monotonic() + 120
    while not any(path.stat().st_size for path in tmp_path.glob("runs/*/metrics.jsonl")):
        assert time.monotonic() < deadline and all(process.poll() is None for process in both)
        time.sleep(0.01)
    both[1].send_signal(signal.SIGTERM)
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [143, 143], said
    assert [text.count("the same command resumes from here") for text in said] == [1, 0]
    stopped = max(int(path.stem.split("-")[0]) for path in tmp_path.glob("runs/*/checkpoints/*.json"))
    assert 16 <= stopped < 8000
    assert rows(tmp_path)[-1]["images_seen"] == stopped // 16 * 16
    main(arguments)
    assert [row["images_seen"] for row in rows(tmp_path)] == list(range(16, 8001, 16))


def test_a_batch_that_cannot_be_shared_is_one_clear_line(block: Block, tmp_path: Path) -> None:
    done = torchrun(words("dcgan", block, tmp_path, ["batch_size=10", "accumulate=2"]))
    assert done.returncode != 0
    line = (
        "error: training.batch_size: 10 cannot be split equally among 2 processes in 2 parts each: set a multiple of 4"
    )
    assert [said for said in done.stderr.splitlines() if "batch_size" in said] == [line]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


TOGETHER = """
import copy, torch, torch.distributed as dist
from torch import nn
from genmodel.params import run_config
from genmodel.models.contract import Adamax, Player, Update, build_model
from genmodel.training.step.distributed import SharedBatchNorm, joined
from genmodel.training.step.engine import Engine

def draw(*shape): return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3

def results(norm, images, weights, summed):  # values of these images, and values of all
    images.requires_grad_()
    output = norm(images)
    (slope,) = torch.autograd.grad((output.tanh() * weights).sum(), images, create_graph=True)
    of = [images, norm.weight] if norm.affine else [images]
    again = torch.autograd.grad(slope.square().sum(), of)
    return [output, slope, again[0]], [*map(summed, again[1:]), norm.running_mean, norm.running_var]

def over_all(value):
    dist.all_reduce(value)
    return value

torch.manual_seed(1)
with joined("cpu") as (world, device):
    rows = slice(3 * world.rank, 3 * world.rank + 3)
    for kind, shape in ((nn.BatchNorm2d, (6, 4, 2, 5)), (nn.BatchNorm1d, (6, 4))):
        for affine in (True, False):
            images, weights = draw(*shape), draw(*shape).flip(0)
            whole = kind(4, affine=affine).double()
            if affine:
                nn.init.normal_(whole.weight, 1, 0.5)
            shared = copy.deepcopy(whole)
            world.share(shared)
            assert type(shared) is SharedBatchNorm
            each, alike = results(whole, images.clone(), weights, lambda value: value)
            mine, mine_alike = results(shared, images[rows].clone(), weights[rows], over_all)
            for value, expected in zip(mine + mine_alike, [value[rows] for value in each] + alike, strict=True):
                torch.testing.assert_close(value, expected)
            assert shared.state_dict().keys() == whole.state_dict().keys() and shared.num_batches_tracked == 1
            shared.eval(), whole.eval()
            torch.testing.assert_close(shared(images[rows]), whole(images[rows]))

    # rows of all: their order, and first and second derivatives of a loss that couples them
    def coupled(all_rows): return (all_rows @ all_rows.T).softmax(dim=1).square().mean()
    everything = draw(6, 4)
    mine = everything[rows].clone().requires_grad_()
    gathered = world.gather(mine)
    assert torch.equal(gathered, everything)
    assert torch.equal(world.gather(torch.arange(6)[rows]), torch.arange(6)), "labels, too"
    everything.requires_grad_()
    (slope,) = torch.autograd.grad(coupled(gathered), mine, create_graph=True)
    (expected,) = torch.autograd.grad(coupled(everything), everything, create_graph=True)
    torch.testing.assert_close(slope, 2 * expected[rows])  # of the losses of both
    (again,) = torch.autograd.grad(slope.square().sum() / 4, mine)
    (expected_again,) = torch.autograd.grad(expected.square().sum(), everything)
    torch.testing.assert_close(again, expected_again[rows])

    network = {"base_channels": 4, "latent_dim": 6}
    config = run_config({"family": "vae", "image_size": 8, "network": network, "training": {"batch_size": 4}}, "toy")
    for optimizer in (None, Adamax(lr=1e-3)):
        model = build_model(config, 0)
        real = model._loss
        def poisoned(step):
            loss, metrics = real(step)
            return loss, metrics | {"loss/rate": metrics["loss/rate"] / (1 - world.rank)}  # inf in the second
        model.updates = lambda: [Update("vae", poisoned)]
        if optimizer:
            model.players = lambda: [Player("vae", [model], optimizer)]
        engine = Engine(model, config.training, 100, world)
        before = copy.deepcopy(model.state_dict())
        engine.step(torch.zeros(2, 8, 8, 3, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), 0)
        assert engine.bad_steps == 1
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
"""


def test_norms_and_refusals_are_those_of_the_whole_batch() -> None:
    """Batch normalisation and gathered rows in float64 with their first and second derivatives; an update that is bad
    in one process is in both, whatever the optimiser."""
    both = processes("-c", TOGETHER)
    said = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
