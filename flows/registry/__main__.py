"""`python -m flows.registry`: who is champion, since when and why; approval, rollback, retirement, verification."""

import argparse
import os
import sys
from pathlib import Path

from flows.registry import console
from flows.registry.approval import who
from flows.settings import Settings
from genmodel.errors import user_errors


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        console.run(arguments, settings)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.registry", description="Who is champion, since when, why.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    approve = commands.add_parser("approve", help="make a version champion that waits for a person's word")
    refuse = commands.add_parser("refuse", help="turn it down: later runs do not promote it")
    for word in (approve, refuse):
        word.add_argument("version", help="its number, or the alias pending")
        word.add_argument("--reason", required=True, metavar="TEXT", help="for the ledger")
        word.add_argument("--by", default=who(), metavar="NAME", help="who says so (default: %(default)s)")
    rollback = commands.add_parser("rollback", help="put the previous champion back, if it loads and generates")
    rollback.add_argument("--reason", default="no reason given", help="for the ledger")
    history = commands.add_parser("history", help="who was champion when and why")
    history.add_argument("--all", action="store_true", help="decisions that changed nothing, too")
    compare = commands.add_parser("compare", help="what changed since then in data, code, settings and figures")
    compare.add_argument(
        "--since", required=True, metavar="WHEN", help="a day (2026-05-31, UTC), a version or an alias"
    )
    compare.add_argument("--until", default="champion", metavar="WHEN", help="the same (default: %(default)s)")
    retire = commands.add_parser("retire", help="take the champion away: the next sound model starts a new line")
    retire.add_argument("--reason", default="no reason given", help="for the ledger")
    lineage = commands.add_parser("lineage", help="what a version was made of, and the commands that restore it")
    verify = commands.add_parser("verify", help="whether a version's package is what was registered")
    files = commands.add_parser("files", help="write the settings, dvc.lock and data.dvc that a version was made with")
    for command in (lineage, verify, files):
        command.add_argument("version", help="its number, or an alias as champion")
    files.add_argument("folder", type=Path, help="where to; files of these names there are replaced")
    return parser


if __name__ == "__main__":
    sys.exit(main())
