"""The command that watches for new data, and retrains when there are some (flows/arrivals/watching.py)."""

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from flows.running.imports import leave, uncollected
from flows.settings import Settings
from genmodel.errors import user_errors
from genmodel.params import check_names

_OFTEN = "*/10 * * * *"


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        root = Path.cwd()
        settings = Settings.read(os.environ, root)
        check_names(root / "params.yaml")
        with uncollected():
            from flows.arrivals import watching
            from flows.running import launch, serving

        if not options.once:
            serving.serve(settings if settings.watch else replace(settings, watch=_OFTEN))
            return 0
        launch.run(watching.watch, settings, start=bool(os.environ.get("PREFECT_API_URL")))  # its own starts nothing
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.watch",
        description="Keep running as `make serve` does, and look for new data by the schedule in GENMODEL_WATCH (every "
        "10 minutes without it): new images in data.dvc's sources, new archives in GENMODEL_INCOMING, a data.dvc that "
        "git brought. Where there are some, they are added to the data, and a retraining starts.",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="look once; a retraining starts where PREFECT_API_URL says",
    )
    return parser


if __name__ == "__main__":
    sys.exit(leave(main()))
