"""Runs that were missed, and pauses, as a Prefect server keeps them."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flows.running import schedules
from flows.settings import Settings

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


@pytest.fixture
def client(prefect_server: None) -> Iterator[Any]:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as opened:
        yield opened


@pytest.fixture
def hourly(client: Any) -> Iterator[Any]:
    """A deployment on a schedule, which nothing runs; and its runs of the last hours, which wait."""
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    flow = client.create_flow_from_name("retrain")
    cron = DeploymentScheduleCreate(schedule=CronSchedule(cron="0 * * * *", timezone="UTC"), active=True, slug="cron")
    made = client.create_deployment(flow_id=flow, name="hourly", schedules=[cron])
    yield made
    client.delete_deployment(made)


def scheduled(client: Any, deployment: Any, begin: datetime, end: datetime) -> list[Any]:
    """The runs that the server's scheduler makes for a time, the first one first."""
    span = {"start_time": begin.isoformat(), "end_time": end.isoformat(), "min_runs": 10, "max_runs": 10}
    client._client.post(f"/deployments/{deployment}/schedule", json=span).raise_for_status()
    return sorted(runs_of(client, deployment), key=lambda run: run.expected_start_time)


def runs_of(client: Any, deployment: Any) -> list[Any]:
    from prefect.client.schemas.filters import FlowRunFilter

    wanted = FlowRunFilter.model_validate({"deployment_id": {"any_": [deployment]}})
    return list(client.read_flow_runs(flow_run_filter=wanted))


def test_one_run_does_for_all_that_were_missed(client: Any, hourly: Any) -> None:
    """After a night in which the machine slept, say; what a person has asked for is left."""
    from prefect.states import Completed, Running, Scheduled

    now = datetime.now(UTC)
    asked = client.create_flow_run_from_deployment(hourly, state=Scheduled(scheduled_time=now - timedelta(hours=3)))
    runs = scheduled(client, hourly, now - timedelta(hours=5), now + timedelta(hours=2))
    late = [run for run in runs if run.auto_scheduled and run.expected_start_time <= now]
    ahead = [run for run in runs if run.expected_start_time > now]
    assert len(late) == 5 and len(ahead) == 2
    client.set_flow_run_state(late[0].id, Running(), force=True)
    told = schedules.stand_in(client.read_flow_run(late[0].id))
    assert told.startswith(
        f"4 scheduled runs were missed since {late[1].expected_start_time:%Y-%m-%d %H:%M UTC} (a pause"
    )
    states = {run.id: run.state for run in runs_of(client, hourly)}
    assert all(states[run.id].is_cancelled() for run in late[1:])
    message = states[late[1].id].message
    assert message and re.fullmatch(r"missed: the run of 20\d\d-\d\d-\d\d \d\d:\d\d UTC does for it", message)
    assert states[asked.id].is_scheduled() and states[late[0].id].is_running()
    runs = scheduled(client, hourly, now, now + timedelta(hours=2))  # made anew, as the deployment was changed
    ahead = [run for run in runs if run.expected_start_time > now and run.state.is_scheduled() and run.auto_scheduled]
    assert len(ahead) == 2
    client.set_flow_run_state(late[0].id, Completed(), force=True)
    client.set_flow_run_state(ahead[0].id, Running(), force=True)
    assert schedules.stand_in(client.read_flow_run(ahead[0].id)) == "", "they are told of once"
    assert schedules.stand_in(client.read_flow_run(asked.id)) == ""


def test_a_deployment_says_when_it_runs_next(client: Any, hourly: Any) -> None:
    """Also after each of its runs, and whatever else its description and the deployment have stays."""
    from prefect.client.schemas.actions import DeploymentUpdate

    client.update_deployment(hourly, DeploymentUpdate(description="Somebody's own.", tags=["kept"]))
    for now, said in (("08:30", "09:00"), ("09:30", "10:00")):
        time = datetime.fromisoformat(f"2026-03-20T{now}:00+00:00")
        told = schedules.describe(client.read_deployment(hourly), time)
        made = client.read_deployment(hourly)
        assert told == f"0 * * * *, time zone UTC, next run 2026-03-20 {said}"
        assert made.description == f"Somebody's own.\n\nSchedule: {told}."
        assert made.tags == ["kept"] and [each.active for each in made.schedules] == [True] and not made.paused
    run = client.create_flow_run_from_deployment(hourly)
    schedules.stand_in(run)
    (found,) = re.findall(r"next run (\S+ \S+)\.", client.read_deployment(hourly).description)
    due = datetime.fromisoformat(found).replace(tzinfo=UTC) - datetime.now(UTC)
    assert timedelta(0) < due <= timedelta(hours=1)


def test_what_a_pause_left_out_is_counted_by_the_schedule(client: Any, hourly: Any) -> None:
    """In the schedule's own zone, here over a change of the clock, and not before there was a schedule."""
    zone = ZoneInfo("Europe/Berlin")
    deployment = client.read_deployment(hourly)
    (cron,) = deployment.schedules
    begun, nightly = (
        datetime(2026, 3, 20, 12, tzinfo=UTC),
        cron.schedule.model_copy(update={"cron": "0 3 * * *", "timezone": zone.key}),
    )

    def missed(last: datetime | None, **changes: Any) -> list[datetime]:
        kept = cron.model_copy(update={"schedule": nightly, "created": begun, **changes})
        until = datetime(2026, 3, 31, 12, tzinfo=UTC)
        return list(schedules._times(deployment.model_copy(update={"schedules": [kept]}), last, until))

    since_friday = missed(datetime(2026, 3, 27, 2, tzinfo=UTC))
    assert since_friday == [datetime(2026, 3, day, 3, tzinfo=zone) for day in (28, 29, 30, 31)]
    assert len(missed(None)) == 11 and len(missed(datetime(2026, 1, 1, tzinfo=UTC))) == 11
    assert missed(None, active=False) == []


def test_nobody_s_restart_ends_a_pause(
    client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from prefect.runner import Runner

    from flows.running import serving
    from flows.running.line import retrain

    settings = Settings.read({"GENMODEL_CRON": "30 4 * * 1", "GENMODEL_TIMEZONE": "Europe/Berlin"}, tmp_path)

    def start() -> Any:
        serving._add(Runner(name="r"), settings, retrain, "GENMODEL_CRON", settings.cron, [])
        (name,) = schedules.of_project(serving.orphans.project(tmp_path))
        return client.read_deployment_by_name(name)

    made = start()
    told = capsys.readouterr().out
    timetable = re.search(r"30 4 \* \* 1, time zone Europe/Berlin, next run 2\d{3}-\d\d-\d\d 04:30", told)
    assert timetable and "paused" not in told
    assert f"retrain/{made.name} is being served: {timetable[0]} (GENMODEL_CRON, GENMODEL_TIMEZONE)" in told
    assert made.description.startswith("Bring the project") and made.description.endswith(
        f"\n\nSchedule: {timetable[0]}."
    )
    assert not made.paused and all(each.active for each in made.schedules)

    client.pause_deployment(made.id)
    resting = start()
    assert resting.paused and resting.description.endswith("\n\nSchedule: 30 4 * * 1, time zone Europe/Berlin.")
    assert f"paused until somebody ends that: the switch of retrain/{made.name}, in the UI" in capsys.readouterr().out
    client.resume_deployment(made.id)
    assert not start().paused

    client.update_deployment_schedule(made.id, made.schedules[0].id, active=False)
    again = start()
    assert [each.active for each in again.schedules] == [False] and not again.paused
    assert (
        f"`prefect deployment schedule resume 'retrain/{made.name}' {again.schedules[0].id}`" in capsys.readouterr().out
    )
    client.delete_deployment(made.id)
