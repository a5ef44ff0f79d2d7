"""The flow `retrain`: brings data, models and leaderboard up to date, with a task for each stage of DVC's graph.

DVC decides what must run and keeps the versions; Prefect runs independent stages in parallel, retries those that met
another DVC process, and shows logs, states and the leaderboard. A stage runs under a guard (guard.py), so
that no training outlives this flow. To share GPUs give the tag `gpu` as many slots as there are:
`prefect concurrency-limit create gpu 1`.
"""

import os
import signal
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, wait
from prefect.tasks import Task

from flows import notify, outcome, prepare
from flows.running import launch, orphans
from flows.running.guard import DEADLINE, STOPPED, Guard, follow
from flows.running.launch import one_line
from flows.settings import Settings
from flows.versioning import closures, repro
from flows.versioning import dvc as versioning
from flows.versioning.dvc import Stage
from flows.versioning.repo import LockConflictError
from genmodel.errors import GenmodelError

SERVED_BY = "GENMODEL_SERVED_BY"  # the pid of the process that serves, for the runs that it starts
_PATIENCE = [5.0, 15.0, 60.0, 300.0, 900.0]  # seconds to wait for another DVC process to end


def _tell_failure(flow: Any, flow_run: Any, state: State[Any]) -> None:
    notify.failed(Settings.read(os.environ, Path.cwd()), state.message or str(state.name))


@flow(name="retrain", on_failure=[_tell_failure], on_crashed=[_tell_failure])
@one_line
def retrain(force: bool = False, renew_extractor: bool = False) -> None:
    """Bring the project in the working folder up to date. force: run all stages, changed or not.

    renew_extractor: train a new extractor, and judge all models and the champion by it. The folder is not a
    parameter: whoever may start runs on a server must not choose which dvc.yaml is executed.
    """
    settings = Settings.read(os.environ, Path.cwd())
    if os.environ.get(SERVED_BY):
        follow(int(os.environ[SERVED_BY]), signal.SIGKILL)  # the guards end its stages
        launch.warn_in_one_line()
    context = FlowRunContext.get()
    if context and context.flow_run and context.flow_run.deployment_id:
        orphans.claim(context.flow_run.id, settings.root)
    ensure_data(settings, return_state=True).result()
    stages = find_work(settings.root, force, renew_extractor, return_state=True).result()
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
    with Guard() as guard:  # left early (SIGTERM), it ends the stages, whose threads would not notice
        for stage in stages:
            needed = [futures[name] for name in stage.needs if name in futures]
            tagged = run_stage.with_options(tags=stage.tags)
            renews = renew_extractor and stage.name == "reference"
            futures[stage.name] = tagged.submit(
                stage=stage,
                settings=settings,
                guard=guard,
                force=force,
                renews=renews,
                wait_for=needed,
                return_state=False,
            )
        wait(list(futures.values()))
    failed = [future.state.message or name for name, future in futures.items() if future.state.is_failed()]
    left = [name for name, future in futures.items() if not future.state.is_final()]
    if failed:
        raise GenmodelError("; ".join(failed) + (f" (so not run: {', '.join(left)})" if left else ""))


@task(task_run_name="{stage.name}", cache_policy=NO_CACHE, **_PATIENT)
@one_line
def run_stage(stage: Stage, settings: Settings, guard: Guard, force: bool, renews: bool = False) -> None:
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
    status = guard.run(command, hear, deadline=deadline, cwd=settings.root, env=environment)
    if status != 0:
        raise _trouble(stage, status, output, deadline)


def _environment(settings: Settings) -> dict[str, str]:
    """This process's own, with this Python the `python` of dvc.yaml, and output that arrives as it is printed."""
    return versioning.with_this_python({**os.environ, **settings.environment, "PYTHONUNBUFFERED": "1"})


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
    create_table_artifact(outcome.leaderboard(settings.root), key="leaderboard", description="The models, best first.")
    if days := outcome.champion_days(settings.root):
        create_table_artifact(days, key="champion", description="The champion's figure by day, with its interval.")
    create_markdown_artifact(outcome.markdown(settings), key="samples", description="What the models draw.")
