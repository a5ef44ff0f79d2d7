"""`genmodel report`: its options, and what it writes."""

import argparse
from collections.abc import Callable
from pathlib import Path

from genmodel.errors import BlockError, ConfigError
from genmodel.output.printable import printable

Command = Callable[[Callable[[argparse.Namespace], None], str, str], argparse.ArgumentParser]


def report(arguments: argparse.Namespace) -> None:
    from genmodel.data.block import Block
    from genmodel.data_report import words
    from genmodel.data_report.features import eye
    from genmodel.data_report.page import write_page
    from genmodel.data_report.report import compare
    from genmodel.data_report.side import sides
    from genmodel.files import durable
    from genmodel.params import read_evaluation, read_limits
    from genmodel.settings.config import EvaluationConfig

    block, params = Block.open(arguments.data), arguments.params
    limits = read_limits(params) if params else None
    config = read_evaluation(params) if params else EvaluationConfig()
    last = len(block.facts["generations"]) - 1
    since = last if arguments.since is None else arguments.since
    if not 0 <= since <= last:
        raise ConfigError(f"--since {since}: the generations of {arguments.data} are 0 to {last}")
    seen = eye(block, arguments.reference, config)
    old, new = sides(block, since, seen.size)
    told = compare(block, old, new, seen)
    exceeded = words.exceeded(told, limits) if limits else []
    write_page(arguments.out, told, old.sample if old else None, new.sample, exceeded)
    durable.write_sealed(arguments.out.with_suffix(".json"), told)
    print("\n".join(map(printable, [f"{words.what(told)}:", *(f"  {each}" for each in words.findings(told))])))
    print(printable(f"{arguments.out} and {arguments.out.with_suffix('.json').name} have all of it"))
    if exceeded:
        raise BlockError(f"{arguments.data} is beyond a limit of {params}: {'; '.join(exceeded)}")


def add_report(command: Command) -> None:
    add = command(report, "Say what the newest images of a block are against those before.", "report data")
    add.add_argument("data", type=Path, nargs="?", default=Path("data"), help="the block's folder")
    add.add_argument(
        "--since",
        type=int,
        default=None,
        metavar="GENERATION",
        help="the first that is new, counted from 0; 0 for a report without a comparison (default: the last)",
    )
    add.add_argument(
        "--reference", type=Path, default=Path("reference"), help="whose extractor makes the features, if it is there"
    )
    add.add_argument("--params", type=Path, default=None, help="compare with the limits in this params.yaml")
    add.add_argument(
        "--out", type=Path, default=Path("data-report.html"), help="the page; a .json is written beside it"
    )
