"""New images in the sources of data.dvc, and new archives, become a delta of the data: what each scheduled run does
first, and the flow `watch` between the runs, which then starts a retraining by an event.

What cannot be looked at, or is not whole, is told and left: the run goes on with the data as they are.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

from prefect import flow, get_run_logger, tags
from prefect.events import emit_event
from prefect.events.worker import EventsWorker

from flows import prepare
from flows.arrivals import sources
from flows.running import launch, orphans, schedules
from flows.running.launch import one_line
from flows.settings import Settings
from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin, Step
from flows.versioning.repo import DATA, LockConflictError
from genmodel.data.block import Block
from genmodel.data.making.account import overview
from genmodel.errors import DataLimitError, GenmodelError, SourceError
from genmodel.output.counting import counted

EVENT = "genmodel.data.new"  # of the resource `resource`: the data of data.dvc are new, and to be trained on


def resource(settings: Settings) -> str:
    """The project's data, as the event and its trigger name them."""
    return f"genmodel.data.{orphans.project(settings.root)}"


@flow(name="watch", flow_run_name="watch")
@one_line
def watch(start: bool = True) -> None:
    """Look for new data, and start a retraining where there are some.

    They are new images in the sources of data.dvc, new archives in GENMODEL_INCOMING, or a data.dvc that git brought
    or somebody made. A retraining marks the data that it starts with, and so never leads to another one.

    Args:
        start: Start a retraining; else only add new images to the data, and say that they are new.
    """
    settings = Settings.read(os.environ, Path.cwd())
    launch.begin(settings)
    logger = get_run_logger()
    try:
        prepare.ensure(settings.root, settings.dvc_remote)
        add(settings)
    except LockConflictError as error:
        logger.info(f"{error}; the next look is by the schedule")
        return
    if sources.is_announced(settings.root):
        launch.name_run("watch: nothing new")
        logger.info("nothing new: no retraining is started")
        return
    launch.name_run("watch: new data")
    digest = versioning.digest(settings.root)
    deployments = schedules.started_by(EVENT, resource(settings)) if start else {}
    if not deployments:
        why = ", and no deployment here waits for it" if start else ""
        logger.warning(f"data.dvc {digest} is new{why}: run `python -m flows.retrain`")
        return
    if all(deployments.values()):
        name, fix = next(iter(deployments.items()))
        logger.warning(f"data.dvc {digest} is new, and {name} is paused until somebody ends that: {fix}")
        return
    emit_event(EVENT, {"prefect.resource.id": resource(settings)}, payload={"data.dvc": digest})
    EventsWorker.instance().wait_until_empty()  # a process that ends at once would lose it
    sources.announce(settings.root)
    logger.info(f"data.dvc {digest} is new: a retraining is started ({EVENT})")


def add(settings: Settings) -> None:
    """Add what is new in the sources to data/ and data.dvc; inside a flow, when data/ is what data.dvc says."""
    root, logger = settings.root, get_run_logger()
    known = sources.steps(Origin.of_data(root))
    try:
        new, left = sources.arrivals(root, settings.incoming, known)
    except SourceError as error:
        logger.warning(f"GENMODEL_INCOMING: {error}")
        new, left = [], []
    if left:
        logger.info(f"not archives, left: {', '.join(left)}")
    if not known and not new:
        logger.info("looked for new images: the data come from no source that can change")
    for step in [*known, *new]:
        try:
            if is_new(settings, step):
                _add(settings, step)
        except DataLimitError:
            raise  # a person must look at these data before anything is trained
        except GenmodelError as error:
            logger.warning(f"{error}; the data stay as they are")


def is_new(settings: Settings, step: Step) -> bool:
    """Whether a source has changed since it was last read, is quiet, and is whole; SourceError if it is not whole."""
    root, logger = settings.root, get_run_logger()
    state = sources.read_state(step.location(root))
    looked = f"looked at {step.source} ({counted(state.files, 'file')})"
    if sources.is_read(root, step.source, state):
        logger.info(f"{looked}: unchanged since it was read")
        return False
    age = time.time() - state.changed
    if age < 0:  # the clock was set back since: a second look tells
        time.sleep(settings.quiet)
        age = settings.quiet if sources.read_state(step.location(root)) == state else 0.0
    if age < settings.quiet:
        logger.info(f"{looked}: a file changed {max(age, 0):.0f} s ago, left until all are {settings.quiet:g} s old")
        return False
    overview(step.location(root), step.layout.under(root), step.devkit_path(root), Block.open(root / DATA))
    logger.info(f"{looked}: changed since it was read, so what is new in it is added")
    return True


def _add(settings: Settings, step: Step) -> None:
    """What `python -m flows.prepare --update` does, as a run within this one."""
    origin = Origin.of_data(settings.root)
    origin = replace(origin, updates=(*origin.updates, step))
    with tags(*orphans.marks(settings.root)):
        state = prepare.prepare(settings.root, origin, update=True, return_state=True)
    if state.name == launch.DATA_LIMIT:
        raise DataLimitError(state.message or step.source)
    if not state.is_completed():
        get_run_logger().warning(f"{step.source}: {state.message or state.name}")
