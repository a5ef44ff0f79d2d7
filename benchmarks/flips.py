"""Flipped bits: what a finished project's readers make of one wrong bit in a file whose time and size are kept.

python -m benchmarks.flips PROJECT -n 1000 --seed 0

Each flip hits one file of a copy of the project, and the readers of that file run as the line runs them. They must say
so in one line (noticed), or find what they found before (harmless: passed over, made again, or not read at all).
Anything else is SILENT: a figure, a ranking, a sample or a row of a record was changed and nobody said so; or it is a
traceback. Kinds of files are drawn equally often, then a file of the kind, then a bit.

Not flipped: params.yaml and dvc.yaml, which a person may change at any time; what belongs to git, DVC and the databases
of MLflow and Prefect; decision.* and champion.json, which `register` writes anew before they are read; leaderboard.*
and pictures in reports/ and in MLflow, which are shown to people and read by no stage.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows.registry.packaging import verify
from flows.registry.promotions import Ledger
from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.telling import outcome
from flows.tracking import Tracker, fetch
from flows.tracking.trainings import Mark, read_rows
from flows.versioning.current import read_report
from genmodel.data.block import Block
from genmodel.errors import BlockError, GenmodelError
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.reference import Reference
from genmodel.evaluation.telling.leaderboard import leaderboard, read_ranking
from genmodel.files import durable
from genmodel.files.model_folder import check_files
from genmodel.params import read_params
from genmodel.sampling.draw import sample
from genmodel.sampling.load import load_model
from genmodel.training.checkpoint import Checkpoints

Reader = Callable[[Path], Any]
_VERDICTS = ("noticed", "harmless", "SILENT", "traceback")
_BUGS = (ArithmeticError, AssertionError, AttributeError, LookupError, OSError, RuntimeError, TypeError, ValueError)
KINDS = {
    "data": "data/**/*",
    "models": "models/**/*",
    "reference": "reference/*",
    "reports": "reports/*.json",
    "figures": "figures/*.json",
    "ranking.csv": "ranking.csv",
    "kept features": "runs/features/*",
    "checkpoints": "runs/*/checkpoints/*",
    "metrics.jsonl": "runs/*/metrics.jsonl",
    "cost.json": "runs/*/cost.json",
    "promotions.jsonl": "promotions.jsonl",
    "the champion's package": "mlartifacts/models/*/artifacts/**/*",
}


def flip(path: Path, bit: int) -> None:
    """Change a bit of a file, and neither its size nor its time."""
    times = path.stat()
    with path.open("r+b") as handle:
        handle.seek(bit // 8)
        byte = handle.read(1)[0]
        handle.seek(bit // 8)
        handle.write(bytes([byte ^ 1 << bit % 8]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def readers(root: Path) -> dict[str, Reader]:
    """By kind: what reads a file of it; what it returns is compared with what it returned before."""
    params, tags = read_params(root / "params.yaml"), _champion(root)
    names = list(params.models)

    def block(_: Path) -> Any:
        opened = Block.open(root / "data")
        if problems := opened.verify(watch=False):
            raise BlockError("; ".join(problems))
        return opened.digest

    def model(path: Path) -> Any:
        folder = root / "models" / path.relative_to(root / "models").parts[0]
        about = check_files(folder, folder.name)
        return about, durable.digest_bytes(sample(load_model(folder)[0], 8, 0).numpy().tobytes())

    def reference(_: Path) -> Any:
        real = Reference.open(root / "reference")
        real.check(Block.open(root / "data"), params.evaluation)
        parts = [part.numpy().tobytes() for part in real.real if part is not None]
        return real.about, real.extractor(params.evaluation).fingerprint, [durable.digest_bytes(part) for part in parts]

    def ranking(_: Path) -> Any:
        reports = [read_report(name, root=root) for name in names]
        table = leaderboard(reports, one_ranking=True).to_csv()
        read_ranking(root / "ranking.csv", reports)
        return reports, table, outcome.leaderboard(root)

    def figures(_: Path) -> Any:
        real, data = Reference.open(root / "reference"), Block.open(root / "data")
        return [
            evaluate(root / "models" / name, data, real, params.evaluation, cache=root / "runs/features")[0].as_dict()
            for name in names
        ]

    def package(path: Path) -> Any:
        with tempfile.TemporaryDirectory() as fetched:
            folder = next(folder for folder in path.parents if folder.name == "artifacts")
            fetch(folder.as_uri(), Path(fetched), Settings.read({}, root))
            return verify(Path(fetched), tags, "the champion")

    def checkpoint(path: Path) -> Any:
        whole, warnings = Checkpoints(path.parent).latest()
        if warnings:
            raise GenmodelError(warnings[0])
        assert whole is not None
        return whole.facts, [durable.digest_bytes(value.numpy().tobytes()) for value in whole.tensors.values()]

    return {
        "data": block,
        "models": model,
        "reference": reference,
        "reports": ranking,
        "figures": lambda _: outcome.leaderboard(root),
        "ranking.csv": ranking,
        "kept features": figures,
        "checkpoints": checkpoint,
        "metrics.jsonl": lambda path: read_rows(path, Mark())[0],
        "cost.json": lambda _: outcome.costs(root),
        "promotions.jsonl": lambda _: Ledger(root).events(),
        "the champion's package": package,
    }


def _champion(root: Path) -> dict[str, str]:
    champion = Registry(Tracker(Settings.read({}, root))).version(CHAMPION)
    if champion is None:
        raise GenmodelError(f"{root} has no champion: run `python -m flows.retrain` there first")
    return dict(champion.tags)


def judge(path: Path, bit: int, reader: Reader, before: Any) -> str:
    """What `reader`, which found `before`, makes of one flip, which is taken back: a verdict of _VERDICTS."""
    flip(path, bit)
    try:
        return "harmless" if reader(path) == before else "SILENT"
    except GenmodelError as error:
        return "noticed" if "\n" not in str(error) else "traceback"
    except _BUGS:
        return "traceback"
    finally:
        flip(path, bit)


def measure(project: Path, count: int, seed: int) -> tuple[dict[str, Counter[str]], list[str]]:
    """The verdicts of `count` flips by kind, and a line for each that was not well read; `project` is a copy."""
    files = {kind: sorted(path for path in project.glob(glob) if path.is_file()) for kind, glob in KINDS.items()}
    files = {kind: [path for path in found if path.stat().st_size] for kind, found in files.items() if found}
    read, draw, bad = readers(project), random.Random(seed), []
    before: dict[Path, Any] = {}
    found: dict[str, Counter[str]] = {kind: Counter() for kind in files}
    for _ in range(count):
        kind = draw.choice(sorted(files))
        path = draw.choice(files[kind])
        bit = draw.randrange(8 * path.stat().st_size)
        if path not in before:
            before[path] = read[kind](path)
        verdict = judge(path, bit, read[kind], before[path])
        found[kind][verdict] += 1
        if verdict in ("SILENT", "traceback"):
            bad.append(f"{verdict}: {path.relative_to(project)}, bit {bit}")
    return found, bad


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.flips", description="Flip bits in a finished project.")
    parser.add_argument("project", type=Path, help="a project whose line has run; a copy of it is damaged")
    parser.add_argument("-n", type=int, default=1000, help="flips")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as scratch:
        ignored = shutil.ignore_patterns(".git", ".dvc", ".venv", ".prefect", "logs")
        copy = shutil.copytree(options.project, Path(scratch) / "project", ignore=ignored)
        found, bad = measure(copy, options.n, options.seed)
    print("| file | flips | noticed | harmless | silent | traceback |\n| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind, verdicts in found.items():
        print(f"| {kind} | {verdicts.total()} | " + " | ".join(str(verdicts[each]) for each in _VERDICTS) + " |")
    print("\n".join(bad), file=sys.stderr)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
