"""The schedules that a Prefect server holds for this project, and the runs of them that were missed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import DeploymentFilter, FlowRunFilter
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Cancelled

_MOST = 1000  # missed runs that are counted


def of_project(project: str) -> dict[str, bool]:
    """Whether each deployment with the project's tag is paused, by its name: flow/deployment."""
    tagged = DeploymentFilter.model_validate({"tags": {"all_": [project]}})
    with get_client(sync_client=True) as client:
        found = client.read_deployments(deployment_filter=tagged)
        return {f"{client.read_flow(each.flow_id).name}/{each.name}": is_paused(each) for each in found}


def is_paused(deployment: DeploymentResponse) -> bool:
    """Whether somebody has paused it, or switched off all of its schedules."""
    schedules = deployment.schedules
    return deployment.paused or bool(schedules and not any(schedule.active for schedule in schedules))


def stand_in(run: FlowRun) -> str:
    """Cancel the other runs of this run's deployment that a schedule made and whose time has come: this one does for
    them all. Returns a line about the runs that were missed since the last one; empty without any.

    A pause leaves no runs, a machine that slept leaves those of some days: they are counted by the schedule.
    """
    assert run.deployment_id is not None
    with get_client(sync_client=True) as client:
        now = datetime.now(UTC)
        deployment = client.read_deployment(run.deployment_id)
        due = _due(client, run, now)
        for other in due:
            client.set_flow_run_state(other.id, Cancelled(message=f"missed: {run.name} does for it"), force=True)
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
    """When the run before this one was due; None for the first one."""
    started = {"start_time": {"is_null_": False}, "deployment_id": {"any_": [run.deployment_id]}}
    newest = FlowRunSort.START_TIME_DESC
    found = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(started), sort=newest, limit=2)
    return next((other.expected_start_time for other in found if other.id != run.id), None)


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
