"""`make ui`: MLflow's UI over the project's runs, opened where they can be compared at once.

python -m flows.ui [--port 5000]
"""

import argparse
import os
import sys
from pathlib import Path

from flows.settings import Settings
from flows.tracking import Tracker
from genmodel.cli import user_errors

_VIEW = "runs?workflowType=machine_learning&compareRunsMode=CHART"


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        with Tracker(settings).talking() as (_, experiment):
            pass
        base = settings.tracking_uri if settings.served else f"http://127.0.0.1:{options.port}"
        print(f"the runs, side by side: {base}/#/experiments/{experiment}/{_VIEW}", flush=True)
        if not settings.served:
            print("Ctrl-C ends the server", flush=True)
            arguments = [
                "--backend-store-uri",
                settings.tracking_uri,
                "--host",
                "127.0.0.1",
                "--port",
                str(options.port),
            ]
            os.execv(sys.executable, [sys.executable, "-m", "mlflow", "server", "--workers", "1", *arguments])
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.ui", description="Open MLflow's UI over the project's runs.")
    parser.add_argument("--port", type=int, default=5000, help="on this machine (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
