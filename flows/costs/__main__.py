"""`python -m flows.costs`: what the runs of a month cost, what DVC's cache saved, and what is left of the budget."""

import argparse
import os
import re
import sys
from pathlib import Path

from flows.costs import budget, ledger, table
from flows.settings import Settings
from genmodel.errors import ConfigError, user_errors


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        if options.month and not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", options.month):
            raise ConfigError(f"--month {options.month}: write a year and a month, as 2026-11")
        settings = Settings.read(os.environ, Path.cwd())
        _show(settings, options.month or "")
    return 0


def _show(settings: Settings, month: str) -> None:
    from rich.console import Console
    from rich.table import Table

    lines = ledger.read(settings.root)
    wanted = ledger.month(lines, settings.timezone, month)
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in table.HEADINGS:
        shown.add_column(heading, justify="left" if heading == "run" else "right")
    for row in table.rows(wanted, settings.timezone):
        shown.add_row(*map(str, row.values()))
    console = Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)
    console.print(shown)
    used, saved = ledger.of_stages(wanted), ledger.total(line.saved for line in wanted)
    print(f"\n{month or 'this month'}: {ledger.duration(used.seconds)} of stages, {used.gpu_hours:.4g} GPU hours, "
          f"{used.kwh:.4g} kWh; the cache saved {ledger.duration(saved.seconds)} and "
          f"{saved.gpu_hours:.4g} GPU hours")  # fmt: skip
    if not month:
        print(budget.line(settings, lines))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.costs", description=__doc__.partition(": ")[2])
    parser.add_argument("--month", metavar="YYYY-MM", help="another one than the current month")
    return parser


if __name__ == "__main__":
    sys.exit(main())
