"""Accuracy on MNIST with 10 labels a class: an improved_gan that also learns from images without a label, and the same
network with the labels alone; presets/mnist-100-labels.yaml holds their settings.

    python -m benchmarks.semi_supervised FOLDER [--work WORK] [--seeds 0,1,2] [--models semi_supervised,labels_alone]

FOLDER holds mnist-10k-images-idx3-ubyte.gz and its labels: 8,000 images to learn from, the last 2,000 to test. The
seed draws the weights and chooses the labels. The same command goes on where an earlier one was ended.
"""

import argparse
import gzip
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.seeds import compare, names_of, seeds_of
from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import user_errors
from genmodel.params import read_params

PRESET = Path(__file__).parent.parent / "presets" / "mnist-100-labels.yaml"
HELD_OUT = 2000


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    params, work = read_params(PRESET), options.work
    with user_errors():
        block = _block(options.folder, work)
        # the figure is of the model itself: pixels are the features that cost nothing
        judging = replace(params.evaluation, extractor="pixels")
        compare(replace(params, evaluation=judging), block, work, ["accuracy"], options.seeds, options.models)
    return 0


def _block(folder: Path, work: Path) -> Block:
    """MNIST's images as they are, in the block's splits train and val."""
    if (work / "data").exists():
        return Block.open(work / "data")
    name = "mnist-10k-{}-ubyte.gz"
    images, labels = (_bytes(folder / name.format(kind)) for kind in ("images-idx3", "labels-idx1"))
    pixels, numbers = images[16:].reshape(-1, 28, 28), labels[8:]
    for place, (image, number) in enumerate(zip(pixels, numbers, strict=True)):
        split = "train" if place < len(pixels) - HELD_OUT else "val"
        path = work / "png" / split / str(number) / f"{place:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path, compress_level=1)
    return prepare(str(work / "png"), work / "data", [28], workers=1, layout=Layout())


def _bytes(path: Path) -> np.ndarray:
    return np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.semi_supervised", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where mnist-10k-images-idx3-ubyte.gz and its labels are")
    parser.add_argument("--work", type=Path, default=Path("runs/semi_supervised"), help="block, runs and models")
    parser.add_argument("--seeds", type=seeds_of, default=[0, 1, 2], help="(default: 0,1,2)")
    parser.add_argument("--models", type=names_of, default=[], help="of the preset (default: both)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
