"""Bits per colour value of held-out images: models that know how likely an image is, PNG, lossless WebP, and baselines.

    python -m benchmarks.likelihood BLOCK ... [--models MODEL ...] [--images 2000] [--samples 100]
        [--precision fp32 bf16]

A table of Markdown for each block, at its first size. All rows are of the same images of its val split; a model's are
those of the block that it was trained on. One-sample bounds, weighted bounds and exact figures cannot be compared with
each other and have columns of their own; +- is the standard error over the images.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks import codecs
from genmodel.data.block import Block
from genmodel.devices import choose_device, use_cpu
from genmodel.errors import ConfigError, user_errors
from genmodel.evaluation.extractors.features import held_out_rows, spread
from genmodel.evaluation.figures.held_out import abilities_measured
from genmodel.files.model_folder import read_config
from genmodel.sampling.load import load_model
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import shape_text

COLUMNS = ("bits_per_dim", "bits_per_dim_iw", "bits_per_dim_exact")
FITTED = 10_000  # train images at most that the Gaussian sees

Row = Mapping[str, str]  # cells by column


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        use_cpu(options.threads)
        blocks = [Block.open(path) for path in options.blocks]
        models = _by_block(options.models, blocks)
        for block in blocks:
            print(_head(block, options), end="", flush=True)
            for name, row in baselines(block, options.images).items():
                print(_line(name, row), flush=True)
            for model in models[block.digest]:
                for precision in options.precision:
                    name = model.name if precision == "fp32" else f"{model.name}, {precision}"
                    print(_line(name, measured(model, block, options, precision)), flush=True)
            print()
    return 0


def _by_block(models: Sequence[Path], blocks: Sequence[Block]) -> dict[str, list[Path]]:
    """The models of each block, by its digest. Held-out images of any other block may be what it was trained on."""
    found: dict[str, list[Path]] = {block.digest: [] for block in blocks}
    for model in models:
        trained_on = read_config(model).get("block")
        if trained_on not in found:
            raise ConfigError(f"{model} was trained on a block that is not among those given")
        found[trained_on].append(model)
    return found


def baselines(block: Block, images: int) -> dict[str, Row]:
    """The rows without a model."""
    size = block.sizes[0]
    held_out = block.gather(size, held_out_rows(block, images))
    train = block.gather(size, spread(block.rows("train"), FITTED))
    values, found = held_out[0].size, {"uniform": np.full(len(held_out), 8.0)}
    found["a Gaussian for each pixel"] = codecs.gaussian_bits(train, held_out).numpy()
    for name, code in (("PNG", codecs.png), ("lossless WebP", codecs.webp)):
        files = [code(image) for image in held_out]
        for part, length in (("the file", len), ("without headers", codecs.bare)):
            found[f"{name}, {part}"] = np.array([8 * length(content) / values for content in files])
    return {name: {"bits_per_dim_exact": _cell(bits)} for name, bits in found.items()}


def measured(folder: Path, block: Block, options: argparse.Namespace, precision: str) -> Row:
    """A model's row: the same figures as in its report, of the same images; its networks in this precision."""
    device = choose_device()
    model, about = load_model(folder, device)
    config = EvaluationConfig(samples=options.images, importance_samples=options.samples)
    with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
        figures = abilities_measured(model, about["classes"], block, config, device)
    found = {name: figures[name] for name in COLUMNS if name in figures}
    if not found:
        raise ConfigError(f"{folder} does not know how likely an image is: leave it out")
    return {name: _cell(each.influence.numpy() + each.value) for name, each in found.items()}


def _cell(bits: np.ndarray) -> str:
    return f"{bits.mean():.3f} ± {bits.std(ddof=1) / len(bits) ** 0.5:.3f}"


def _line(name: str, row: Row) -> str:
    return f"| {name} | {' | '.join(row.get(column, '') for column in COLUMNS)} |"


def _head(block: Block, options: argparse.Namespace) -> str:
    count = len(held_out_rows(block, options.images))
    said = f"{block.path.name}, {shape_text(block.sizes[0], block.channels)}, {count:,} held-out images"
    return f"| {said} | one sample | {options.samples} samples | exact |\n| --- | ---: | ---: | ---: |\n"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.likelihood", description=__doc__.splitlines()[0])
    parser.add_argument("blocks", type=Path, nargs="+", metavar="BLOCK", help="blocks with held-out images")
    parser.add_argument("--models", type=Path, nargs="+", default=[], metavar="MODEL", help="finished models' folders")
    parser.add_argument("--images", type=int, default=2000, help="held-out images at most (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=100, help="of a weighted bound (default: %(default)s)")
    parser.add_argument("--precision", nargs="+", default=["fp32"], choices=["fp32", "bf16"], help="(default: fp32)")
    parser.add_argument("--threads", type=int, default=0, help="on the CPU; 0: torch's choice (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
