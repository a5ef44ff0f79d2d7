"""`python -m flows.explore`: a page to play with the champion, or another version in the registry, on this machine."""

import argparse
import os
import sys
from pathlib import Path

from flows.registry.registry import CHAMPION, Registry
from flows.running.scratch import scratch
from flows.settings import Settings
from flows.tracking import Tracker
from genmodel.devices import choose_device
from genmodel.errors import user_errors
from genmodel.exploring.commands import add_options, open_page
from genmodel.exploring.subject import Subject


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        registry = Registry(Tracker(settings))
        version = registry.find(options.version)
        with scratch(settings.root) as folder:
            registry.download(version, folder)
            subject = Subject.load(folder, choose_device(options.device))
        subject.name += f", version {version.number}"
        open_page(subject, options.data, options.port)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.explore", description="Play with a registered model in the browser, on this machine."
    )
    parser.add_argument(
        "version", nargs="?", default=CHAMPION, help="a number or an alias in the registry (default: %(default)s)"
    )
    add_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
