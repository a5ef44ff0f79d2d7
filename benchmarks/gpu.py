"""The engine on an NVIDIA GPU: checked, then timed beside the plain loop and the card's own limits.

    python -m benchmarks.gpu [--out FOLDER] [--source IMAGES]

Needs torch, torchvision, numpy, pandas and pillow alone. The table comes last; --out keeps it, with a grid of samples.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import plain
from benchmarks.data import CORES, enlarged
from benchmarks.sources import unpacked
from genmodel import pixels
from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.data.reading.loader import Loader
from genmodel.errors import ConfigError, user_errors
from genmodel.models.contract import build_model
from genmodel.params import run_config
from genmodel.sampling.draw import sample
from genmodel.showing.grids import save_grid
from genmodel.training.step.engine import Engine, set_precision

SIZE = 64
STEP_FLOP = 2.28e9  # of DCGAN-64's step, an image: width 64, the discriminator frozen in the generator's update
BATCHES = (64, 512, 2048)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--source", help="a folder or tar of class folders, or a tar of tars (default: drawn images)")
    parser.add_argument("--out", type=Path, default=Path("gpu-bench"), help="where table.md and samples.png go")
    options = parser.parse_args(argv)
    with user_errors(), tempfile.TemporaryDirectory() as scratch:
        if not torch.cuda.is_available():
            raise ConfigError("torch sees no GPU here: this is what measures one")
        images = unpacked(options.source, Path(scratch) / "images")
        small = prepare(str(images), Path(scratch) / "data", [SIZE])
        block = enlarged(small, SIZE, Path(scratch) / "large")
        lines = [f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {CORES} cores", ""]
        lines += checks(small)
        lines += ["", "| what | images/s | of it |", "| --- | ---: | --- |"]
        lines += limits() + loading(block) + training(images, block, options.out)
    text = "\n".join(lines) + "\n"
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "table.md").write_text(text)
    print(text)
    return 0


def checks(block: Block) -> list[str]:
    """The three places of a loader give equal batches; a captured step the bytes of an eager one."""
    host, labels = Loader(block, SIZE, "train", 1, flip=True).batch(5, 64)
    for place in ("device", "host", "map"):
        batch = Loader(block, SIZE, "train", 1, "cuda", flip=True, place=place).batch(5, 64)[0]
        assert torch.equal(batch.cpu(), host), place
    ends = []
    for captured in (True, False):
        engine = engine_for("dcgan", 64, "fp32", deterministic=True)
        if not captured:
            engine._captured = None
        for number in range(10):
            engine.step(host.cuda(), labels.cuda(), number * 64)
        ends.append(torch.cat([value.detach().flatten() for value in engine.model.parameters()]))
    assert torch.equal(*ends), f"captured and eager weights differ by up to {(ends[0] - ends[1]).abs().max():.1e}"
    return ["checked: three places give equal batches; ten captured steps give the bytes of ten eager ones"]


def engine_for(family: str, batch_size: int, precision: str, **training: object) -> Engine:
    settings = {"precision": precision, "batch_size": batch_size, **training}
    config = run_config({"family": family, "image_size": SIZE, "training": settings}, "bench")
    set_precision(config.training, torch.device("cuda"))
    model = build_model(config, 0).to("cuda", memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Engine(model, config.training, budget=1_000_000_000)


def seconds(work: Callable[[int], object], count: int, repeats: int = 5) -> float:
    """Of one call, the median over repeats of `count` calls each, the device waited for."""
    for number in range(10):
        work(number)
    taken = []
    for _ in range(repeats):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for number in range(count):
            work(number)
        torch.cuda.synchronize()
        taken.append((time.perf_counter() - start) / count)
    return statistics.median(taken)


def limits() -> list[str]:
    """What the card reaches in a large product in bf16, as images/s of DCGAN-64, and in a large copy."""
    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    flops = 2 * side**3 / seconds(lambda _: a @ b, 20)
    source = torch.randint(0, 256, (2 << 30,), device="cuda", dtype=torch.uint8)
    target = torch.empty_like(source)
    bandwidth = 2 * source.numel() / seconds(lambda _: target.copy_(source), 20)
    arithmetic = f"{flops / 1e12:.0f} TFLOP/s in bf16, {bandwidth / 1e12:.2f} TB/s copied"
    return [f"| the card's limit by arithmetic | {flops / STEP_FLOP:,.0f} | {arithmetic} |"]


def loading(block: Block) -> list[str]:
    """Resident 64 px data: gather, flip, normalise."""
    rows = []
    for batch_size in BATCHES[1:]:
        loader = Loader(block, SIZE, "all", 0, "cuda", flip=True, place="device")
        taken = seconds(lambda n, b=batch_size, at=loader: pixels.to_model(at.batch(n * b, b)[0]), 100)  # type: ignore[misc]
        rows.append(f"| gather, flip, normalise, batches of {batch_size} | {batch_size / taken:,.0f} | resident |")
    return rows


def training(images: Path, block: Block, out: Path) -> list[str]:
    """Steps with their data, captured and eager, beside the plain loop."""
    plain_batches, networks = plain.batches(images, SIZE, 64, CORES), plain.Networks("cuda")
    slow = 64 / seconds(lambda _: networks.step(next(plain_batches).cuda()), 30, repeats=3)
    rows = [f"| plain loop, DataLoader, batches of 64 | {slow:,.0f} | 1x |"]
    for family in ("dcgan", "vae"):
        for batch_size in BATCHES:
            for precision, captured in (("fp32", True), ("tf32", True), ("bf16", False), ("bf16", True)):
                engine = engine_for(family, batch_size, precision)
                if not captured:
                    engine._captured = None
                loader = Loader(block, SIZE, "all", 0, "cuda", flip=True, place="device")
                step = lambda n, e=engine, at=loader, b=batch_size: e.step(*at.batch(n * b, b), n * b)  # noqa: E731
                rate = batch_size / seconds(step, 50)
                share = f"{rate / slow:.0f}x" if family == "dcgan" else ""
                how = "captured" if captured else "eager"
                rows.append(f"| {family}-64, {precision}, {how}, batches of {batch_size} | {rate:,.0f} | {share} |")
    out.mkdir(parents=True, exist_ok=True)
    save_grid(out / "samples.png", sample(engine.model.eval(), 64, seed=0))
    return rows


if __name__ == "__main__":
    sys.exit(main())
