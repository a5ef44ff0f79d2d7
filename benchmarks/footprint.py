"""How fast each model of a settings file trains and samples, and how much memory it takes at its peak.

    python -m benchmarks.footprint [presets/cifar10-small.yaml] [--model pixelcnn] [--channels 3] [--images 64]

Each figure is of a process of its own. Memory is what that process held at its peak (VmHWM), and in parentheses what
of it came after torch was imported. Weights are untrained and images random: neither changes how long a step takes.
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.compare import rate
from benchmarks.families import CLASSES, engine_steps
from genmodel.devices import use_cpu
from genmodel.errors import ConfigError, user_errors
from genmodel.models.contract import build_model
from genmodel.params import read_params
from genmodel.sampling.draw import Networks
from genmodel.settings.config import RunConfig

HEAD = "| model | training, images/s | peak | sampling, images/s | peak |\n| --- | ---: | ---: | ---: | ---: |\n"


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        use_cpu(options.threads)
        models = read_params(options.settings).models
        names = options.model or list(models)
        if unknown := [name for name in names if name not in models]:
            raise ConfigError(f"{options.settings} has no model {unknown[0]}: one of {', '.join(models)}")
        if options.only:
            print(measured(models[names[0]], options))
            return 0
        print(f"{options.settings}, one process each, {options.threads or 'all'} threads, CPU\n\n{HEAD}", end="")
        for name in names:
            cells = [_in_a_process(name, what, options) for what in ("train", "sample")]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)
    return 0


def measured(config: RunConfig, options: argparse.Namespace) -> str:
    """Two cells of a row: the median rate of three repeats, and the peak of memory."""
    before = peak()
    if options.only == "train":
        work, per_step = engine_steps(config, options.channels, "cpu", options.steps)
        count = options.steps * per_step
    else:
        model = build_model(config, CLASSES, options.channels).eval().requires_grad_(False)
        source = Networks(model, "", "", [1 / CLASSES] * CLASSES)
        count = options.images

        def work() -> None:
            source.draw(source.codes(count, seed=0))

    work()
    images = statistics.median(rate(count, work) for _ in range(3))
    return f"{images:,.1f} | {peak():,} MB ({peak() - before:+,})"


def peak() -> int:
    """The most memory that this process has held so far, in MB. Linux alone tells it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    held = next(line for line in lines if line.startswith("VmHWM"))
    return int(held.split()[1]) * 1024 // 10**6


def _in_a_process(name: str, what: str, options: argparse.Namespace) -> str:
    given = {key: str(getattr(options, key)) for key in ("channels", "steps", "images", "threads")}
    flags = [flag for key, value in given.items() for flag in (f"--{key}", value)]
    command = [sys.executable, "-m", "benchmarks.footprint", str(options.settings), "--model", name, "--only", what]
    return subprocess.run([*command, *flags], check=True, capture_output=True, text=True).stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint", description=__doc__.splitlines()[0])
    parser.add_argument("settings", type=Path, nargs="?", default=Path("params.yaml"), help="(default: %(default)s)")
    parser.add_argument("--model", action="append", default=[], help="of the file (default: all)")
    parser.add_argument("--channels", type=int, default=1, help="of the images (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=6, help="of training in one measurement (default: %(default)s)")
    parser.add_argument("--images", type=int, default=64, help="sampled in one measurement (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="0: torch's choice (default: %(default)s)")
    parser.add_argument("--only", choices=["train", "sample"], help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
