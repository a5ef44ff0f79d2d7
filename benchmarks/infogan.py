"""InfoGAN on MNIST: how well its categories agree with the classes that it was never told, over several seeds; and what
each of its codes does to an image.

    python -m benchmarks.infogan MNIST --work FOLDER [--seeds 0,1,2] [--set KEY=VALUE ...]

MNIST is a folder with an images-idx3-ubyte file and its labels; 20% of it are held out and judged by. A second call
with the same FOLDER goes on where the first one stopped.
"""

import argparse
import json
import statistics
import sys
from pathlib import Path

import torch

from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.errors import user_errors
from genmodel.evaluation.extractors.features import held_out_rows
from genmodel.evaluation.figures.latent.matching import cluster_accuracy
from genmodel.models.abilities import Clusters
from genmodel.models.contract import Family
from genmodel.params import run_config
from genmodel.sampling.load import load_model
from genmodel.showing.display import Display
from genmodel.showing.walks import save_sweeps
from genmodel.training import trainer
from genmodel.training.identify import identify

SIZE = 28
SETTINGS = {
    # Half the published widths, for one core. The discriminator's published rate, 2e-4, is for three times the images:
    # after 69,000 it has 49% right, three times that rate 70%. Q sees images turned, stretched and moved a little: so a
    # category cannot mean a slant, which two seeds of three took for a difference of classes.
    "network": {
        "base_channels": 32,
        "hidden": 512,
        "discriminator_learning_rate": 6.0e-4,
        "augment": {"geometry": 0.15},
    },
    "training": {
        "images": 300_000,
        "batch_size": 64,
        "flip": False,
        "threads": 1,
        "precision": "bf16",
        "ema_half_life": 5_000,
        "log_every": 10_000,
        "checkpoint_every": 20_000,
    },
}


class Judge(Display):
    """Prints the accuracy at the moments at which a training's samples are drawn."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.block = block

    def take_samples(self, images_seen: int, model: Family) -> None:
        super().take_samples(images_seen, model)
        print(f"seed {self.seed}: {images_seen:,} images, accuracy {accuracy(model, self.block):.4f}", flush=True)


@torch.inference_mode()
def accuracy(model: Family, block: Block) -> float:
    """On the held-out images."""
    assert isinstance(model, Clusters)
    rows = held_out_rows(block, len(block))
    groups = model.cluster(torch.from_numpy(block.gather(model.image_size, rows)))
    return cluster_accuracy(torch.cat([groups, torch.from_numpy(block.labels[rows]).long()[:, None]], dim=1)).value


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    found = []
    with user_errors():
        data = options.work / "data"
        if not data.exists():
            prepare(str(options.source), data, [SIZE], val_fraction=0.2)
        block = Block.open(data)
        for seed in map(int, options.seeds.split(",")):
            changes = [*options.set, f"seed={seed}"]
            config = run_config({"family": "infogan", "image_size": SIZE, **SETTINGS}, "infogan", changes)
            identity = identify(f"infogan-{seed}", config, block)
            out = options.work / "models" / identity.name
            run = trainer.train(identity, block, out, options.work / "runs", watcher=Judge(block))
            found.append(accuracy(load_model(out)[0], block))
            print(f"seed {seed}: accuracy {found[-1]:.4f} after {_minutes(run):.1f} minutes", flush=True)
            codes = list(range(config.network.categorical_codes + config.network.continuous_codes))
            told = save_sweeps(out, out.with_name(f"{out.name}-codes.png"), codes, 3, 10, 0, None, "cpu")
            print("\n".join(told), flush=True)
    print(f"median of {len(found)} seeds: {statistics.median(found):.4f}")
    return 0


def _minutes(run: Path) -> float:
    return float(json.loads((run / "cost.json").read_text())["seconds"]) / 60


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.infogan", description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help="a folder with MNIST's idx files")
    parser.add_argument("--work", type=Path, required=True, help="where the block, the runs and the models are kept")
    parser.add_argument("--seeds", default="0,1,2", help="of the trainings (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    return parser


if __name__ == "__main__":
    sys.exit(main())
