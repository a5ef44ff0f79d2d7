"""Measure this machine: preparation, loading, training of DCGAN-64 and evaluation, each beside the plain way.

    python -m benchmarks.run [--source IMAGES] [--repeats 3] [--only prepare,small,load,train,evaluate,follow]

Ratios are medians over repeats that alternate between the two ways, so that a noisy neighbour meets both.
"""

import argparse
import multiprocessing
import platform
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from datetime import date
from pathlib import Path

import torch

from benchmarks import plain
from benchmarks.compare import HEAD, Row, alternate, rate, settled
from benchmarks.data import CORES, measure_load, measure_prepare
from benchmarks.evaluate import measure_evaluate
from benchmarks.follow import measure_follow
from benchmarks.small import measure_small
from benchmarks.sources import unpacked
from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.data.reading.loader import Loader
from genmodel.devices import choose_device, use_cpu
from genmodel.errors import user_errors
from genmodel.models.contract import build_model
from genmodel.params import run_config
from genmodel.training.step.engine import Engine

RESULTS = Path(__file__).parent / "RESULTS.md"
SIZE = 64


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors(), tempfile.TemporaryDirectory() as scratch:
        images = unpacked(options.source, Path(scratch) / "images")
        block = prepare(str(images), Path(scratch) / "data", [SIZE, 256])
        measures = {
            "prepare": measure_prepare,
            "small": measure_small,
            "load": measure_load,
            "train": measure_train,
            "evaluate": measure_evaluate,
            "follow": measure_follow,
        }
        rows = [row for name in options.only.split(",") for row in measures[name](images, block, options)]
        report = _report(rows, len(block), options)
    print(report)
    if not options.dry:
        with RESULTS.open("a") as handle:
            handle.write("\n" + report)
    return 0


def measure_train(images: Path, block: Block, options: argparse.Namespace) -> list[Row]:
    """Steps of DCGAN-64 and of the VAE, both of width 64, with batches of 64, data included, on the device at hand.

    The plain loop has a process of its own, where nothing is set that genmodel sets for itself.
    """
    use_cpu(0)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as apart:
        return [
            _beside_plain(family, precision, images, block, apart, options.repeats)
            for family in ("dcgan", "vae")
            for precision in ("fp32", "bf16")
        ]


def _beside_plain(
    family: str, precision: str, images: Path, block: Block, apart: ProcessPoolExecutor, repeats: int
) -> Row:
    batch_size, device = 64, choose_device()
    steps = 200 if device == "cuda" else 20  # a DataLoader begins with full queues: four batches that cost it nothing
    config = run_config({"family": family, "image_size": SIZE, "training": {"precision": precision}}, "bench")
    model = build_model(config, 0).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    loader = Loader(block, SIZE, "train", seed=0, device=device, flip=True)
    engine = Engine(model, config.training, budget=1_000_000)

    def ours() -> None:
        for seen in range(0, steps * batch_size, batch_size):
            engine.step(*loader.batch(seen, batch_size), seen)
        engine.means()  # waits for the device

    def plainly() -> float:
        return settled(apart.submit(plain.train, family, images, SIZE, device, steps, CORES).result())

    count = steps * batch_size
    what = f"train {family.upper()}-64, {precision}, {device}"
    return alternate(what, lambda: rate(count, ours), "eager fp32, DataLoader", plainly, repeats)


def _report(rows: list[Row], count: int, options: argparse.Namespace) -> str:
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    machine = f"{_processor()}, {CORES} cores{gpu}; torch {torch.__version__}, Python {platform.python_version()}"
    source = Path(options.source).name if options.source else "drawn JPEGs of 500 x 375"
    head = f"## {date.today()}, {machine}\n\n{count} images ({source}), {options.repeats} repeats, medians.\n\n"
    return head + HEAD + "".join(row.text() for row in rows)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="a folder or tar of class folders, or a tar of tars (default: drawn images)")
    parser.add_argument("--small", help="a folder of class folders of 64 px JPEGs (default: 25,000 drawn ones)")
    parser.add_argument("--repeats", type=int, default=3, help="pairs of measurements (default: %(default)s)")
    parser.add_argument(
        "--only", default="prepare,small,load,train,follow", help="what to measure (default: %(default)s)"
    )
    parser.add_argument("--samples", type=int, default=10_000, help="to evaluate (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="print the table without adding it to RESULTS.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
