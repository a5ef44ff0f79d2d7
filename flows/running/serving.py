"""`make serve`: the flows on their schedules, on a server of the project's own or on that of PREFECT_API_URL."""

import asyncio
import contextlib
import os
import warnings
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.responses import DeploymentResponse
from prefect.events import DeploymentEventTrigger
from prefect.exceptions import ObjectNotFound, TerminationSignal
from prefect.runner import Runner
from prefect.schedules import Cron

from flows.arrivals import watching
from flows.running import launch, orphans, schedules, server
from flows.running.launch import SERVED_BY
from flows.running.line import retrain
from flows.settings import Settings

_SLUG = "cron"  # a schedule without a name would be replaced at each start, and with it whether it is switched off


def serve(settings: Settings) -> None:
    """Keep running, and start the flows on their schedules (GENMODEL_CRON, GENMODEL_WATCH, GENMODEL_TIMEZONE).

    A pause that somebody asked for in Prefect holds until it is ended there, whatever starts again; there is no other.
    """
    with server.serving(Path(settings.environment["PREFECT_HOME"])), launch.server(settings):
        orphans.close(settings.root, unclaimed=True)
        os.environ[SERVED_BY] = str(os.getpid())
        # Prefect 3.8.8 warns of this at each SIGTERM, though it then stops in another way
        warnings.filterwarnings("ignore", "coroutine 'Runner.astop' was never awaited", RuntimeWarning)
        name = orphans.project(settings.root)
        # one run at a time: the watcher must not change data that a training reads
        runner = Runner(name=name, limit=1, pause_on_shutdown=False)
        new_data = DeploymentEventTrigger(
            name=f"{name}: new data",
            expect={watching.EVENT},
            match={"prefect.resource.id": watching.resource(settings)},
        )
        _add(runner, settings, retrain, "GENMODEL_CRON", settings.cron, [new_data])
        if settings.watch:
            _add(runner, settings, watching.watch, "GENMODEL_WATCH", settings.watch, [])
        elif former := _found(f"{watching.watch.name}/{name}"):
            with get_client(sync_client=True) as client:  # or its runs would wait for ever for somebody to start them
                client.delete_deployment(former.id)
        with contextlib.suppress(KeyboardInterrupt, TerminationSignal):
            asyncio.run(runner.start())


def _add(
    runner: Runner, settings: Settings, flow: Flow[..., Any], setting: str, cron: str, triggers: list[Any]
) -> None:
    """Make or update the flow's deployment, paused if it was, and say when it runs."""
    name = orphans.project(settings.root)
    whole = f"{flow.name}/{name}"
    before = _found(whole)
    active = all(schedule.active for schedule in before.schedules) if before else True
    runner.add_flow(  # and not a deployment, whose flow each run would import by a path of its file
        flow,
        name=name,
        schedule=Cron(cron, timezone=settings.timezone, slug=_SLUG, active=active),
        paused=before.paused if before else False,
        triggers=triggers,
        tags=[name],
    )
    if now := _found(whole):
        timetable = schedules.describe(now, datetime.now(UTC))
        print(f"{whole} is being served: {timetable} ({setting}, GENMODEL_TIMEZONE)", flush=True)
        if fix := schedules.to_resume(whole, now):
            print(f"  paused until somebody ends that: {fix}", flush=True)


def _found(name: str) -> DeploymentResponse | None:
    with get_client(sync_client=True) as client:
        try:
            return client.read_deployment_by_name(name)
        except ObjectNotFound:
            return None
