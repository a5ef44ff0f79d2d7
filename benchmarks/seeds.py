"""Every model of a settings file over several seeds: its figures, and how far they spread.

    python -m benchmarks.seeds presets/improved-gan-ablation.yaml --data digits --figures fd_classifier,recall
    python -m benchmarks.seeds presets/cifar10-small.yaml --data cifar10-train.tar.gz --seeds 0,1,2

--data is a block, or what `genmodel prepare` takes. A seed draws weights, order and noise. Every line is printed as it
is known, and the same command goes on where an earlier one was ended, within a training too.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.errors import user_errors
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.reference import Reference, make_reference
from genmodel.evaluation.report import Report
from genmodel.files import durable
from genmodel.params import Params, read_params
from genmodel.settings.config import EvaluationConfig, RunConfig
from genmodel.showing.display import train
from genmodel.training.identify import identify


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        params = read_params(options.preset)
        block = _block(options.data, params, options.work)
        compare(params, block, options.work, options.figures, options.seeds, options.models)
    return 0


def compare(
    params: Params, block: Block, work: Path, figures: Sequence[str], seeds: Sequence[int], names: Sequence[str] = ()
) -> None:
    """Print a row for each training, and under a model's rows their median, lowest and highest."""
    judging = params.evaluation
    if not (work / "reference").exists():
        make_reference(block, judging.image_size, judging, work / "reference")
    reference = Reference.open(work / "reference")
    print(f"| model | seed | {' | '.join(figures)} |\n| --- | --- |{' ---: |' * len(figures)}", flush=True)
    for name in names or params.models:
        found = []
        for seed in seeds:
            report = _judged(f"{name}-{seed}", with_seed(params.models[name], seed), block, reference, judging, work)
            found.append([report.figures.get(figure, float("nan")) for figure in figures])
            print(_row(name, str(seed), [f"{value:.4g}" for value in found[-1]]), flush=True)
        columns = [
            f"{statistics.median(column):.4g} ({min(column):.4g} to {max(column):.4g})"
            for column in zip(*found, strict=True)
        ]
        print(_row(name, f"median of {len(seeds)}", columns), flush=True)


def with_seed(config: RunConfig, seed: int) -> RunConfig:
    return replace(config, training=replace(config.training, seed=seed))


def _judged(
    name: str, config: RunConfig, block: Block, reference: Reference, judging: EvaluationConfig, work: Path
) -> Report:
    """Read where the same training has been judged already."""
    identity = identify(name, config, block)
    out, kept = work / "models" / name, work / "reports" / f"{identity.fingerprint}.json"
    if kept.exists():
        return Report.from_dict(json.loads(kept.read_text()), str(kept))
    train(identity, block, out, work / "runs")
    report, _ = evaluate(out, block, reference, judging)
    kept.parent.mkdir(parents=True, exist_ok=True)
    durable.write_json(kept, report.as_dict())
    return report


def _row(name: str, seed: str, columns: Sequence[str]) -> str:
    return f"| {name} | {seed} | {' | '.join(columns)} |"


def _block(source: Path, params: Params, work: Path) -> Block:
    if (source / "block.json").exists():
        return Block.open(source)
    if not (work / "data").exists():
        sizes = {config.image_size for config in params.models.values()} | {params.evaluation.image_size}
        return prepare(str(source), work / "data", sorted(sizes))
    return Block.open(work / "data")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.seeds", description=__doc__.splitlines()[0])
    parser.add_argument("preset", type=Path, help="a file like params.yaml")
    parser.add_argument("--data", type=Path, required=True, help="a block, a folder or archive of images, or digits")
    parser.add_argument("--work", type=Path, default=Path("runs/seeds"), help="block, runs, models and reports")
    parser.add_argument("--figures", type=names_of, default=["fd_classifier", "precision", "recall"])
    parser.add_argument("--seeds", type=seeds_of, default=[0, 1, 2])
    parser.add_argument("--models", type=names_of, default=[], help="of the file (default: all)")
    return parser


def names_of(text: str) -> list[str]:
    return text.split(",")


def seeds_of(text: str) -> list[int]:
    return [int(seed) for seed in names_of(text)]


if __name__ == "__main__":
    sys.exit(main())
