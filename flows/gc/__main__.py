"""`python -m flows.gc`: frees what old runs have left; what anyone may still need is kept.

It keeps every version with an alias (champion, previous, candidate), a pending one, one with a tag of your own or
that was rolled back; the models of this folder; all that a dvc.lock or .dvc file of any branch, tag or remote branch
names; unfinished trainings that would go on; and the last runs.
"""

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from flows.gc import collect
from flows.settings import Settings
from flows.versioning import locks
from genmodel.errors import ConfigError, user_errors
from genmodel.output.printable import printable


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        last = options.keep or settings.keep_runs or collect.LAST
        if last < 1:
            raise ConfigError(f"--keep {last}: at least 1")
        with locks.project(settings.root, wait=False):
            _show(collect.collect(settings, last, options.remote, options.dry_run), options.dry_run)
    return 0


def _show(rows: Iterable[collect.Row], dry: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("what", "kept", "would go" if dry else "freed", "size", "kept because"):
        table.add_column(heading, justify="left" if heading in ("what", "kept because") else "right", overflow="fold")
    known = list(rows)
    for row in known:
        size = "" if row.size is None else megabytes(row.size)
        table.add_row(row.what, str(row.kept), str(row.freed), size, printable(row.why))
    Console(width=None if sys.stdout.isatty() else 140, markup=False, highlight=False).print(table)
    print(f"\n{megabytes(collect.total(known))} {'would be freed' if dry else 'freed'}")


def megabytes(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"


def _parser() -> argparse.ArgumentParser:
    first, _, more = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m flows.gc", description=first.partition(": ")[2], epilog=more)
    parser.add_argument("--dry-run", action="store_true", help="say what would go, and remove nothing")
    parser.add_argument(
        "--keep", type=int, metavar="N", help=f"the last N runs stay (default: GENMODEL_KEEP_RUNS, or {collect.LAST})"
    )
    parser.add_argument(
        "--remote", nargs="?", const="", metavar="NAME", help="clean DVC's default remote, too, or the one of that name"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
