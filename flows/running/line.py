"""The flow `retrain`: brings data, models and leaderboard up to date, with a task for each stage of DVC's graph.

DVC decides what must run and keeps the versions; Prefect runs independent stages in parallel, retries those that met
another DVC process, and shows logs, states and the leaderboard. A stage runs under a guard (guard.py), so
that no training outlives this flow. Stages with the tag `gpu` share the GPUs of this machine (slots.py).
"""

import functools
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture, wait
from prefect.tasks import Task

from flows import data_report, prepare
from flows.arrivals import sources, watching
from flows.costs import budget, ledger, table
from flows.gc import collect
from flows.running import launch
from flows.running.guard import DEADLINE, STOPPED, Guard
from flows.running.launch import one_line
from flows.running.slots import TAG, Slots
from flows.settings import Settings
from flows.telling import notify, outcome, plan
from flows.versioning import closures, locks, repro, retention
from flows.versioning import dvc as versioning
from flows.versioning.dvc import Stage
from flows.versioning.repo import LockConflictError
from genmodel.errors import BudgetError, GenmodelError

_PATIENCE = [5.0, 15.0, 60.0, 300.0, 900.0]  # seconds to wait for another DVC process to end


def _tell_failure(flow: Any, flow_run: Any, state: State[Any]) -> None:
    notify.failed(Settings.read(os.environ, Path.cwd()), state.message or str(state.name))


def _alone(run: Callable[..., None]) -> Callable[..., None]:
    """Only one flow retrains a project at a time; the next one waits for it or leaves, as GENMODEL_IF_RUNNING says."""

    @functools.wraps(run)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        settings, started = Settings.read(os.environ, Path.cwd()), time.monotonic()
        launch.begin(settings)
        with locks.project(settings.root, settings.waits):
            run(*args, **kwargs)
            _count_costs(settings, time.monotonic() - started)
            if settings.keep_runs:
                _clean_up(settings, settings.keep_runs)

    return wrapped


@flow(name="retrain", flow_run_name="retrain", on_failure=[_tell_failure], on_crashed=[_tell_failure])
@one_line
@_alone
def retrain(force: bool = False, renew_extractor: bool = False, look: bool = True) -> None:
    """Bring the project in the working folder up to date: data, models, leaderboard and registry.

    The folder is not a parameter: whoever may start runs on a server must not choose which dvc.yaml is executed.

    Args:
        force: Run all stages, changed or not.
        renew_extractor: Train a new extractor, and judge all models and the champion by it.
        look: Look at the sources of data.dvc first, and add new images to the data (GENMODEL_LOOK=0: never).
    """
    settings = Settings.read(os.environ, Path.cwd())
    ensure_data(settings, return_state=True).result()
    if look and settings.look:
        watching.add(settings)
    sources.announce(settings.root)
    stages = find_work(settings.root, force, renew_extractor, return_state=True).result()
    budget.check(settings, [stage.name for stage in stages if TAG in stage.tags], _run_id())
    if stages:
        run_stages(stages, settings, force, renew_extractor)
    publish(settings)
    notify.ended(settings)


def _is_lock_conflict(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return state.name == launch.LOCK_CONFLICT


_PATIENT: Any = {
    "retries": len(_PATIENCE),
    "retry_delay_seconds": _PATIENCE,
    "retry_condition_fn": _is_lock_conflict,  # and for nothing else: a training that failed would only fail again
}


@task(name="data", task_run_name="data", cache_policy=NO_CACHE, **_PATIENT)
@one_line
def ensure_data(settings: Settings) -> str:
    digest = prepare.ensure(settings.root, settings.dvc_remote)
    get_run_logger().info(f"data.dvc {digest}")
    data_report.check(settings.root)
    return digest


@task(name="plan", task_run_name="plan", cache_policy=NO_CACHE, **_PATIENT)
@one_line
def find_work(root: Path, force: bool, renew_extractor: bool = False) -> list[Stage]:
    """The stages to run, each after all that it needs."""
    closures.refresh(root)
    stages = versioning.graph(root)
    names = {stage.name for stage in stages} if force else versioning.changed(root)
    if renew_extractor:  # and all that depends on it
        names = set(names) | {"reference"}
        names |= {stage.name for stage in stages if _follows(stage, names, stages)}
    launch.name_run(f"retrain: {'all stages, changed or not' if force else plan.in_short(names)}")
    idle = [stage.name for stage in stages if stage.name not in names and not stage.always]
    if not names:
        get_run_logger().info("nothing changed since the last run")
    elif idle:
        get_run_logger().info(f"up to date: {', '.join(idle)}")
    return [stage for stage in stages if stage.name in names or stage.always]


def _follows(stage: Stage, names: set[str], stages: list[Stage]) -> bool:
    by_name = {stage.name: stage for stage in stages}
    return stage.name in names or any(_follows(by_name[need], names, stages) for need in stage.needs)


def run_stages(stages: list[Stage], settings: Settings, force: bool, renew_extractor: bool = False) -> None:
    """A task for each stage, in parallel where none needs another; GenmodelError if one of them fails."""
    futures: dict[str, PrefectFuture[Any]] = {}
    slots = Slots(settings)
    with Guard() as guard:  # left early (SIGTERM), it ends the stages, whose threads would not notice
        for rank, stage in enumerate(stages):
            needed = [futures[name] for name in stage.needs if name in futures]
            tagged = run_stage.with_options(tags=stage.tags)
            renews = renew_extractor and stage.name == "reference"
            futures[stage.name] = tagged.submit(
                stage=stage,
                settings=settings,
                guard=guard,
                slots=slots,
                rank=rank,
                force=force,
                renews=renews,
                wait_for=needed,
                return_state=False,
            )
        wait(list(futures.values()))
    failed = [future.state.message or name for name, future in futures.items() if future.state.is_failed()]
    left = [name for name, future in futures.items() if not future.state.is_final()]
    if failed:
        kind = BudgetError if any(future.state.name == launch.OVER_BUDGET for future in futures.values()) else None
        raise (kind or GenmodelError)("; ".join(failed) + (f" (so not run: {', '.join(left)})" if left else ""))


@task(task_run_name="{stage.name}", cache_policy=NO_CACHE, **_PATIENT)
@one_line
def run_stage(
    stage: Stage, settings: Settings, guard: Guard, slots: Slots, rank: int, force: bool, renews: bool = False
) -> None:
    """`dvc repro` of one stage, its output line by line in this task's log."""
    logger = get_run_logger()
    output: list[str] = []

    def hear(line: str) -> None:
        output.append(line)
        if repro.is_worth_reading(line):
            logger.info(line)

    command = versioning.repro_command(stage.name, force or renews)
    environment = _environment(settings) | ({"GENMODEL_RENEW_EXTRACTOR": "1"} if renews else {})
    deadline = stage.deadline or settings.stage_deadline
    with slots.one(stage.tags, rank, logger.info) as device:
        if TAG in stage.tags:  # the others may have used more by now than was foreseen
            budget.check(settings, [stage.name], _run_id())
        status = guard.run(command, hear, deadline=deadline, cwd=settings.root, env=environment | device)
    if status != 0:
        raise _trouble(stage, status, output, deadline)


def _environment(settings: Settings) -> dict[str, str]:
    """This process's own, with this Python the `python` of dvc.yaml, and output that arrives as it is printed."""
    own = {"PYTHONUNBUFFERED": "1", ledger.RUN: _run_id()}
    return versioning.with_this_python({**os.environ, **settings.environment, **own})


def _run_id() -> str:
    """Of this run in Prefect, also in its tasks."""
    from prefect.runtime import flow_run

    return str(flow_run.id or "")


def _trouble(stage: Stage, status: int, output: list[str], deadline: float) -> GenmodelError:
    if status == DEADLINE:
        fix = "raise its meta.deadline_minutes in dvc.yaml, or run again to go on where it was stopped"
        return GenmodelError(f"{stage.name} took more than {deadline / 60:g} minutes: {fix}")
    if status == STOPPED:
        return GenmodelError(f"{stage.name} was stopped: run again to go on")
    if repro.is_lock_conflict(output):
        return LockConflictError(f"{stage.name}: another DVC process is at work on its files: run again after it")
    return GenmodelError(f"{stage.name} failed: {repro.failure(output)}")


def publish(settings: Settings) -> None:
    """Show the leaderboard and the pictures in Prefect's UI."""
    rows = outcome.figures_first(outcome.leaderboard(settings.root))
    create_table_artifact(rows, key="leaderboard", description="The models, best first.")
    if days := outcome.champion_days(settings.root):
        create_table_artifact(days, key="champion", description="The champion's figure by day, with its interval.")
    create_markdown_artifact(outcome.markdown(settings), key="samples", description="What the models draw.")


def _count_costs(settings: Settings, seconds: float) -> None:
    """Keep what this run cost and what the cache has saved, and show it in Prefect's UI."""
    ledger.end_run(settings.root, _run_id(), seconds, retention.locked_stages(settings.root))
    lines = ledger.month(ledger.read(settings.root), settings.timezone)
    create_table_artifact(table.rows(lines), key="costs", description=budget.line(settings, lines))


def _clean_up(settings: Settings, last: int) -> None:
    """What `flows.gc` does, after this run; what stands in its way is a warning, and no reason for the run to fail."""
    try:
        freed = collect.total(collect.collect(settings, last))
        get_run_logger().info(f"flows.gc freed {freed / 2**20:,.1f} MiB; the last {last} runs stay")
    except GenmodelError as error:
        get_run_logger().warning(f"flows.gc did not finish: {error}")
