"""The command that retrains: it asks DVC what must run, and starts Prefect (flows/line.py) for that alone.

To import Prefect and start its server takes ten times as long as DVC's answer that nothing has changed.
"""

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from flows import outcome, versioning
from flows.settings import Settings
from genmodel.cli import user_errors
from genmodel.errors import VersioningError


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        root = Path.cwd()
        settings = Settings.read(os.environ, root)
        if options.serve:
            serve(settings)
            return 0
        if (
            options.force
            or options.renew_extractor
            or os.environ.get("PREFECT_API_URL")
            or not nothing_to_run(settings)
        ):
            _run(settings, options.force, options.renew_extractor)
        else:
            print("nothing changed since the last run")
        outcome.show(settings)
    return 0


def nothing_to_run(settings: Settings) -> bool:
    """Whether data and stages are as dvc.lock has them. What DVC cannot tell now, the flow finds out and explains."""
    try:
        return versioning.is_up_to_date(settings.root)
    except VersioningError:
        return False


def _run(settings: Settings, force: bool, renew_extractor: bool) -> None:
    from flows import launch
    from flows.line import retrain

    launch.run(retrain, settings, force=force, renew_extractor=renew_extractor)


def __getattr__(name: str) -> Any:
    """The flow `retrain`, under the entrypoint that prefect.yaml and deployments made with it name."""
    if name != "retrain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows.line import retrain

    return retrain


def serve(settings: Settings) -> None:
    """Stay, and run the flow by its schedule (GENMODEL_CRON, GENMODEL_TIMEZONE)."""
    from cronsim import CronSim
    from prefect.schedules import Cron

    from flows import launch, orphans, server
    from flows.line import SERVED_BY, retrain

    with server.serving(Path(settings.environment["PREFECT_HOME"])), launch.server(settings):
        orphans.close(settings.root, unclaimed=True)
        zone = ZoneInfo(settings.timezone)
        first = next(CronSim(settings.cron, datetime.now(zone)))
        print(f"next run {first:%Y-%m-%d %H:%M} {settings.timezone}    (GENMODEL_CRON, GENMODEL_TIMEZONE)", flush=True)
        os.environ[SERVED_BY] = str(os.getpid())
        retrain.serve(
            name=orphans.project(settings.root),
            schedule=Cron(settings.cron, timezone=settings.timezone),
            tags=[orphans.project(settings.root)],
            limit=1,
            pause_on_shutdown=False,  # or a restart would leave the schedule switched off
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.retrain",
        description="Bring data, models, leaderboard and registry up to date. What has not changed is not run again.",
        epilog="It uses the Prefect server of PREFECT_API_URL, or one of its own.\n\nexamples:\n"
        "  python -m flows.retrain\n  GENMODEL_CRON='0 3 * * *' python -m flows.retrain --serve",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--force", action="store_true", help="run every stage, changed or not")
    parser.add_argument("--renew-extractor", action="store_true", help="train the extractor anew, judge all by it")
    parser.add_argument("--serve", action="store_true", help="stay, and run by the schedule in GENMODEL_CRON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
