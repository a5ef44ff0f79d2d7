"""The options of the commands that draw walks through a model's noise, and those that all drawing commands have."""

import argparse
from pathlib import Path

from genmodel.errors import ConfigError


def add_device(to: argparse.ArgumentParser) -> None:
    to.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, or auto")


def check_seed(seed: int) -> None:
    """ConfigError for a --seed that no request can have."""
    if not 0 <= seed < 2**63:
        raise ConfigError(f"--seed: must be between 0 and 2**63 - 1, not {seed}")


def add_interpolate(to: argparse.ArgumentParser) -> None:
    to.add_argument("model", type=Path, help="a finished model's folder")
    to.add_argument("--from", dest="start", type=int, default=0, help="number of a sample of the seed, counted from 0")
    to.add_argument("--to", dest="end", type=int, default=1, help="number of another")
    to.add_argument("--frames", type=int, default=24, help="how many images, both ends included")
    _add_rest(to, "walk.png")


def add_traverse(to: argparse.ArgumentParser) -> None:
    to.add_argument("model", type=Path, help="a finished model's folder")
    to.add_argument(
        "--code",
        type=int,
        action="append",
        default=[],
        help="number of a code, may be repeated (default: the first 10)",
    )
    to.add_argument("-n", type=int, default=3, help="how many samples each code is swept in")
    to.add_argument("--frames", type=int, default=10, help="values of a code; a category takes all that it has")
    _add_rest(to, "traverse.png")


def _add_rest(to: argparse.ArgumentParser, out: str) -> None:
    to.add_argument("--seed", type=int, default=0, help="of the samples, as of genmodel sample")
    to.add_argument("--class", dest="label", help="of a conditional model: this class alone, by its name or number")
    to.add_argument("--out", type=Path, default=Path(out), help="the PNG to write, and a GIF beside it")
    add_device(to)
