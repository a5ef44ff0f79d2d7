"""The schedules that a Prefect server holds for this project, and the runs of them that were missed."""

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import cast
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import DeploymentSchedule, FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.schemas.automations import EventTrigger
from prefect.events.schemas.events import Resource, ResourceSpecification
from prefect.states import Cancelled

_MOST = 1000  # missed runs that are counted
_TIMETABLE = "\n\nSchedule: "  # what comes before it in a description is another's


def of_project(project: str) -> dict[str, str]:
    """How to end the pause of each deployment with the project's tag, by its name; empty without one."""
    tagged = DeploymentFilter.model_validate({"tags": {"all_": [project]}})
    with get_client(sync_client=True) as client:
        found = client.read_deployments(deployment_filter=tagged)
        named = {f"{client.read_flow(each.flow_id).name}/{each.name}": each for each in found}
        return {name: to_resume(name, each) for name, each in named.items()}


def started_by(event: str, resource: str) -> dict[str, str]:
    """The same of each deployment of the server that an event of this resource starts."""
    found: dict[str, str] = {}
    with get_client(sync_client=True) as client:
        for automation in client.read_automations():
            trigger = automation.trigger
            if not (automation.enabled and isinstance(trigger, EventTrigger) and event in trigger.expect):
                continue
            match = cast(ResourceSpecification, trigger.match)
            if match.matches(Resource({"prefect.resource.id": resource})):
                for action in automation.actions:
                    if identity := getattr(action, "deployment_id", None):
                        deployment = client.read_deployment(identity)
                        name = f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"
                        found[name] = to_resume(name, deployment)
    return found


def to_resume(name: str, deployment: DeploymentResponse) -> str:
    """What ends the pause that somebody asked for, of a deployment or of its schedule; empty without one."""
    if deployment.paused:
        return f"the switch of {name}, in the UI under Deployments"  # no command of Prefect 3.8.8 does
    off = next((schedule for schedule in deployment.schedules if not schedule.active), None)
    return f"`prefect deployment schedule resume '{name}' {off.id}`, or in the UI" if off else ""


def describe(deployment: DeploymentResponse, now: datetime) -> str:
    """Let a deployment's description end with its schedule, time zone and next run after `now`; returns that end.

    Empty, and nothing is written, for a deployment without a cron schedule. The server makes the runs ahead anew.
    """
    end = "; ".join(filter(None, (_timetable(each, deployment.paused, now) for each in deployment.schedules)))
    if end:
        about = (deployment.description or "").partition(_TIMETABLE)[0]
        update = DeploymentUpdate(description=f"{about}{_TIMETABLE}{end}.")
        with get_client(sync_client=True) as client:
            client.update_deployment(deployment.id, update)
    return end


def _timetable(each: DeploymentSchedule, is_paused: bool, now: datetime) -> str:
    cron, zone = getattr(each.schedule, "cron", None), getattr(each.schedule, "timezone", None) or "UTC"
    if not cron:
        return ""
    told = f"{cron}, time zone {zone}"
    with contextlib.suppress(CronSimError, ValueError):  # of a schedule of Prefect's own, such as @daily
        first = next(CronSim(cron, now.astimezone(ZoneInfo(zone))))
        return told if is_paused or not each.active else f"{told}, next run {first:%Y-%m-%d %H:%M}"
    return told


def stand_in(run: FlowRun) -> str:
    """Cancel the other runs of this run's deployment that a schedule made and whose time has come: this one does for
    them all, and its description tells the next one. Returns a line about the runs that were missed since the last one;
    empty without any.

    A machine that slept leaves them waiting, a pause leaves none: so they are counted by the schedule.
    """
    assert run.deployment_id is not None
    now = max(datetime.now(UTC), run.expected_start_time or datetime.now(UTC))  # it may be started a moment too early
    with get_client(sync_client=True) as client:
        deployment = client.read_deployment(run.deployment_id)
        describe(deployment, now)
        due = _due(client, run, now)
        said = f"missed: the run of {now:%Y-%m-%d %H:%M %Z} does for it"
        for other in due:
            client.set_flow_run_state(other.id, Cancelled(message=said), force=True)
        missed = list(islice(_times(deployment, _last(client, run), now), _MOST))
    if run.auto_scheduled:  # the last of these times is its own
        missed = missed[:-1]
    first = min([*missed, *(other.expected_start_time for other in due if other.expected_start_time)], default=None)
    if first is None:
        return ""
    count = max(len(missed), len(due))
    what = "1 scheduled run was" if count == 1 else f"{count:,} scheduled runs were"
    return (
        f"{'at least ' if count >= _MOST - 1 else ''}{what} missed since {first:%Y-%m-%d %H:%M %Z} (a pause, or a "
        "machine that was off, asleep or busy): this run does for all of them"
    )


def _due(client: SyncPrefectClient, run: FlowRun, now: datetime) -> list[FlowRun]:
    wanted = {
        "deployment_id": {"any_": [run.deployment_id]},
        "state": {"type": {"any_": [StateType.SCHEDULED]}},
        "expected_start_time": {"before_": now},
    }
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))
    return [other for other in found if other.auto_scheduled and other.id != run.id]


def _last(client: SyncPrefectClient, run: FlowRun) -> datetime | None:
    """When the last run began (those that were cancelled have a start, too), or was due if that is later; or None."""
    begun = {"start_time": {"is_null_": False}, "deployment_id": {"any_": [run.deployment_id]}}
    newest = FlowRunSort.START_TIME_DESC
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(begun), sort=newest, limit=2)
    last = next((other for other in found if other.id != run.id), None)
    return max(filter(None, (last.start_time, last.expected_start_time))) if last else None


def _times(deployment: DeploymentResponse, last: datetime | None, now: datetime) -> Iterator[datetime]:
    """When the deployment's schedule should have run since `last`, and since there is this schedule."""
    for each in deployment.schedules:
        cron, zone = getattr(each.schedule, "cron", None), getattr(each.schedule, "timezone", None)
        if not each.active or not cron or not each.created:
            continue
        begin = max(filter(None, (last, each.created)))
        try:
            times = CronSim(cron, begin.astimezone(ZoneInfo(zone or "UTC")))
        except (CronSimError, ValueError):  # one of Prefect's own, such as @daily
            continue
        for time in times:
            if time > now:
                break
            yield time
