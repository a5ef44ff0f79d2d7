"""The command that retrains: it asks DVC what must run, and starts Prefect (flows/running/line.py) only if needed.

Importing Prefect and starting its server takes ten times as long as DVC's answer that nothing has changed.
"""

import argparse
import os
import subprocess
import time
import uuid
from pathlib import Path
from typing import Any

from flows.costs import ledger
from flows.running.imports import leave, uncollected
from flows.settings import Settings
from flows.telling import notify, outcome, plan
from flows.versioning import closures, locks, retention
from flows.versioning import dvc as versioning
from flows.versioning.dvc import Stage
from genmodel.errors import GenmodelError, VersioningError, user_errors
from genmodel.params import check_names

REGISTER = "python -m flows.stages register"  # as in dvc.yaml


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.if_running:
        os.environ["GENMODEL_IF_RUNNING"] = options.if_running
    with user_errors():
        root = Path.cwd()
        settings = Settings.read(os.environ, root)
        check_names(root / "params.yaml")  # before DVC turns them into paths
        if options.plan:
            plan.show(settings)
            return 0
        if options.why:
            plan.explain(root, options.why)
            return 0
        if options.serve:
            from flows.running import serving

            serving.serve(settings)
            return 0
        if not settings.waits:  # before a server is started for nothing
            with locks.project(root, wait=False):
                pass
        asked = options.force or options.renew_extractor or options.look or os.environ.get("PREFECT_API_URL")
        always = None if asked else nothing_to_run(settings)
        if always is None:
            _run(settings, force=options.force, renew_extractor=options.renew_extractor, look=options.look)
        else:
            print("nothing changed since the last run")
            with locks.project(root, settings.waits):
                started = time.monotonic()
                for stage in always:
                    _run_here(stage, settings)
                stages = retention.locked_stages(root)
                ledger.end_run(root, uuid.uuid4().hex, time.monotonic() - started, stages)
            notify.ended(settings)
        outcome.show(settings)
    return 0


def nothing_to_run(settings: Settings) -> list[Stage] | None:
    """The stages that always run, if data and all other stages match dvc.lock; else None.

    None, too, if DVC fails: the flow then reports why.
    """
    try:
        closures.refresh(settings.root)
        return versioning.idle(settings.root)
    except VersioningError:
        return None


def _run_here(stage: Stage, settings: Settings) -> None:
    """Run, without Prefect, a stage that always runs; `register` in this process."""
    if stage.command == REGISTER:
        from flows.registry.register import register

        settings.apply()
        register(settings)
    elif subprocess.run(versioning.repro_command(stage.name), cwd=settings.root).returncode:
        raise GenmodelError(f"{stage.name} failed: see above")


def _run(settings: Settings, **parameters: bool) -> None:
    with uncollected():
        from flows.running import launch
        from flows.running.line import retrain

    launch.run(retrain, settings, **parameters)


def __getattr__(name: str) -> Any:
    """The flow `retrain`, at the entrypoint that prefect.yaml and existing deployments name."""
    if name != "retrain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from flows.running.line import retrain

    return retrain


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.retrain",
        description="Bring data, models, leaderboard and registry up to date. What has not changed is not run again.",
        epilog="It uses the Prefect server of PREFECT_API_URL, or one of its own.\n\nexamples:\n"
        "  python -m flows.retrain\n  GENMODEL_CRON='0 3 * * *' python -m flows.retrain --serve",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--force", action="store_true", help="run every stage, changed or not")
    parser.add_argument("--renew-extractor", action="store_true", help="train a new extractor, judge all models by it")
    parser.add_argument(
        "--if-running",
        choices=("wait", "leave"),
        help="while another one is at work here: wait for it, or leave with exit code 75 (GENMODEL_IF_RUNNING)",
    )
    parser.add_argument("--look", action="store_true", help="add new images in data.dvc's sources first")
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument("--serve", action="store_true", help="keep running, on the schedule in GENMODEL_CRON")
    ways.add_argument("--plan", action="store_true", help="say what would run and why, and run nothing")
    ways.add_argument("--why", metavar="STAGE", help="say all that one stage would run for, such as train@vae")
    return parser


if __name__ == "__main__":
    leave(main())
