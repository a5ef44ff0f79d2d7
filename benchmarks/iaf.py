"""The ladder of iaf_vae with inverse autoregressive posteriors and with Gaussian ones: of the same depth and width,
trained on the same images in the same order; held-out bits/dim for every seed.

    python -m benchmarks.iaf BLOCK [--work WORK] [--seeds 0,1,2] [--steps 0,1] [--images 12000] [--set KEY=VALUE]

BLOCK is a block that `genmodel prepare` made, such as CIFAR-10's at 32 px. `--steps` are the numbers of autoregressive
steps that are compared. The same command goes on where an earlier one was ended.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genmodel.data.block import Block
from genmodel.errors import EvaluationError, user_errors
from genmodel.files import durable
from genmodel.models.abilities import Bounds, Weighted
from genmodel.models.contract import Family
from genmodel.params import run_config
from genmodel.sampling.load import load_model
from genmodel.settings.config import RunConfig
from genmodel.showing.display import train
from genmodel.training.identify import identify
from genmodel.training.trainer import run_folder

HELD_OUT, SAMPLES, BATCH = 500, 8, 100  # val images that are judged; draws of z for each; images at a time
NETWORK = {"base_channels": 24, "latent_dim": 8, "levels": 2, "blocks": 1, "likelihood": "mixture", "components": 1}
TRAINING = {"batch_size": 16, "schedule": "cosine", "threads": 1, "ema_half_life": 1000, "log_every": 1600}
TRAINING |= {"checkpoint_every": 8000}


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        block = Block.open(options.block)
        found: dict[int, list[float]] = {}
        for seed in map(int, options.seeds.split(",")):
            for steps in map(int, options.steps.split(",")):
                told = figures(config(steps, seed, options, block), f"iaf-{steps}-{seed}", block, options.work)
                found.setdefault(steps, []).append(told["weighted"])
                line = f"one sample {told['bound']:.4f}, {SAMPLES} samples {told['weighted']:.4f} bits/dim"
                print(f"| {steps} steps | seed {seed} | {line} | {told['seconds']:.0f} s |", flush=True)
        for steps, bits in found.items():
            print(
                f"| {steps} steps | median of {len(bits)} | {SAMPLES} samples {statistics.median(bits):.4f} bits/dim |"
            )
    return 0


def config(steps: int, seed: int, options: argparse.Namespace, block: Block) -> RunConfig:
    values: dict[str, Any] = {
        "family": "iaf_vae",
        "image_size": block.sizes[0].plain(),
        "network": {**NETWORK, "learning_rate": 0.01, "iaf_steps": steps},
        "training": {**TRAINING, "images": options.images, "seed": seed},
    }
    return run_config(values, f"iaf-{steps}", options.set)


def figures(asked: RunConfig, name: str, block: Block, work: Path) -> dict[str, float]:
    """Of a model that is trained now, or was; kept beside it."""
    who, again = identify(name, asked, block), f"remove {work} and run the same command again"
    kept = work / f"{name}-{who.fingerprint[:16]}.json"
    if not kept.exists():
        train(who, block, work / "models" / name, work / "runs")
        cost = durable.read_sealed(run_folder(who, work / "runs") / "cost.json", EvaluationError, again)
        model, _ = load_model(work / "models" / name)
        durable.write_sealed(kept, judged(model, block) | {"seconds": cost["seconds"]})
    return durable.read_sealed(kept, EvaluationError, again)


@torch.inference_mode()
def judged(model: Family, block: Block) -> dict[str, float]:
    """Means over val images of the bounds from one draw of z and from several, in bits/dim."""
    assert isinstance(model, Bounds) and isinstance(model, Weighted)
    rows = block.rows("val")[:HELD_OUT]
    images = torch.from_numpy(block.gather(model.image_size, rows).copy()).split(BATCH)
    labels = torch.as_tensor(block.labels[rows], dtype=torch.int64).split(BATCH)
    rng, seen = torch.Generator().manual_seed(0), list(zip(images, labels, strict=True))
    return {
        "bound": _mean([model.bound(*each, rng) for each in seen]),
        "weighted": _mean([model.weighted_bound(*each, rng, SAMPLES) for each in seen]),
    }


def _mean(bits: list[Tensor]) -> float:
    return float(torch.cat(bits).double().mean())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.iaf", description=__doc__.splitlines()[0])
    parser.add_argument("block", type=Path, help="what `genmodel prepare` made")
    parser.add_argument("--work", type=Path, default=Path("runs/iaf"), help="runs, models, figures")
    parser.add_argument("--seeds", default="0,1,2", help="(default: %(default)s)")
    parser.add_argument("--steps", default="0,1", help="autoregressive steps of a posterior (default: %(default)s)")
    parser.add_argument("--images", type=int, default=12_000, help="that each model sees (default: %(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting")
    return parser


if __name__ == "__main__":
    sys.exit(main())
