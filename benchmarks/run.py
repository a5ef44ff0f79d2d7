"""Measure this machine: preparation, loading and training of DCGAN-64, each beside the plain way in the same run.

    python -m benchmarks.run [--source IMAGES] [--repeats 3] [--only prepare,load,train,follow]

Ratios are medians over repeats that alternate between the two ways, so that a noisy neighbour meets both.
"""

import argparse
import platform
import sys
import tarfile
import tempfile
from datetime import date
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from benchmarks import plain
from benchmarks.compare import HEAD, Row, alternate, rate
from benchmarks.data import CORES, measure_load, measure_prepare
from benchmarks.follow import measure_follow
from genmodel import pixels
from genmodel.cli import choose_device, user_errors
from genmodel.config import run_config
from genmodel.data.block import Block
from genmodel.data.loader import Loader
from genmodel.data.prepare import prepare
from genmodel.models.base import build_model

RESULTS = Path(__file__).parent / "RESULTS.md"
SIZE = 64


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors(), tempfile.TemporaryDirectory() as scratch:
        images = unpacked(options.source, Path(scratch) / "images")
        block = prepare(str(images), Path(scratch) / "data", [SIZE, 256])
        measures = {
            "prepare": measure_prepare,
            "load": measure_load,
            "train": measure_train,
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
    """Steps of DCGAN-64 of width 64 with batches of 64, data included, on the device at hand."""
    device, batch_size = choose_device(), 64
    steps = 200 if device == "cuda" else 6
    plain_batches = plain.batches(images, SIZE, batch_size, CORES)
    networks = plain.Networks(device)

    def theirs() -> float:
        return rate(steps * batch_size, lambda: [networks.step(next(plain_batches).to(device)) for _ in range(steps)])

    rows = []
    for precision in ("fp32", "bf16"):
        model = build_model(run_config({"family": "dcgan", "image_size": SIZE}, "bench")).to(device)
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        loader = Loader(block, SIZE, "train", seed=0, device=device, flip=True)
        rng = torch.Generator(device)

        def run(model=model, loader=loader, rng=rng, precision=precision) -> None:  # type: ignore[no-untyped-def]
            for step in range(steps):
                rng.manual_seed(step)
                batch, _ = loader.batch(step * batch_size, batch_size)
                with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
                    metrics = model.step(pixels.to_model(batch), rng)
            float(metrics["loss/generator"])  # waits for the device

        row = alternate(
            f"train DCGAN-64, {precision}, {device}",
            lambda run=run: rate(steps * batch_size, run),
            "eager fp32, DataLoader",
            theirs,
            options.repeats,
        )
        rows.append(row)
    return rows


def unpacked(source: str | None, target: Path) -> Path:
    """Class folders of JPEGs for ImageFolder: from a tar of tars or of class folders, or drawn here without one."""
    if source is None:
        return draw(target)
    if Path(source).is_dir():
        return Path(source)
    with tarfile.open(source) as archive:
        for member in archive:
            handle = archive.extractfile(member)
            if member.name.endswith(".tar") and handle is not None:
                with tarfile.open(fileobj=handle) as inner:
                    inner.extractall(target / Path(member.name).stem, filter="data")
            elif member.isfile():
                archive.extract(member, target, filter="data")
    return target


def draw(target: Path, count: int = 400) -> Path:
    """JPEGs of ImageNet's usual size and weight (500 x 375, about 110 KB): noise at several scales."""
    noise = np.random.default_rng(0)
    for number in range(count):
        image = Image.fromarray(noise.integers(0, 256, (375, 500, 3), dtype=np.uint8))
        coarse = Image.fromarray(noise.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
        image = Image.blend(coarse, image.filter(ImageFilter.GaussianBlur(1)), 0.4)
        path = target / f"class{number % 10}" / f"{number:04d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, quality=92)
    return target


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
    parser.add_argument("--repeats", type=int, default=3, help="pairs of measurements (default: %(default)s)")
    parser.add_argument("--only", default="prepare,load,train,follow", help="what to measure (default: %(default)s)")
    parser.add_argument("--dry", action="store_true", help="print the table without adding it to RESULTS.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
