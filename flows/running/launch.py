"""How a flow is started from the command line, and how it ends: a GenmodelError is one line, never a traceback."""

import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

import httpx
from prefect import Flow, get_run_logger, tags
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext, refresh_global_settings_context
from prefect.exceptions import FailedRun
from prefect.logging.handlers import APILogHandler
from prefect.runtime import flow_run
from prefect.states import Cancelled, Failed

from flows.running import orphans, schedules
from flows.running import server as own_server
from flows.running.guard import follow
from flows.settings import Settings
from flows.versioning.repo import LockConflictError
from genmodel.errors import BudgetError, BusyError, DataLimitError, GenmodelError
from genmodel.output.masking import masked

P = ParamSpec("P")
R = TypeVar("R")

SERVED_BY = "GENMODEL_SERVED_BY"  # the pid of the process that serves, for the runs that it starts
LOCK_CONFLICT = "LockConflict"  # the name of a failed state: the only one worth a retry
OVER_BUDGET, BUSY = "OverBudget", "Busy"  # of states with an exit code of their own
DATA_LIMIT = "DataLimit"


def one_line(step: Callable[P, R]) -> Callable[P, R]:
    """Make a task or flow end Failed with a GenmodelError's line; raised, it would fill the log with its traceback.

    Prefect takes a returned state as the final state. A flow calls such a task with `return_state=True` and asks
    for the `result()`, which raises FailedRun.
    """

    @functools.wraps(step)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return step(*args, **kwargs)
        except LockConflictError as error:
            return cast(R, Failed(name=LOCK_CONFLICT, message=masked(str(error))))
        except DataLimitError as error:
            return cast(R, Failed(name=DATA_LIMIT, message=masked(str(error))))
        except BudgetError as error:
            return cast(R, Failed(name=OVER_BUDGET, message=masked(str(error))))
        except BusyError as error:  # asked to leave, it has not failed
            return cast(R, Cancelled(name=BUSY, message=masked(str(error))))
        except (GenmodelError, FailedRun) as error:
            return cast(R, Failed(message=masked(str(error))))

    return wrapped


def run(flow: Flow[..., Any], settings: Settings, **parameters: Any) -> None:
    """Run a flow here, on the server of PREFECT_API_URL or on one of its own; GenmodelError when it fails."""
    with server(settings, ephemeral=True):
        orphans.close(settings.root)
        try:
            with tags(*orphans.marks(settings.root)):
                state: Any = flow(**parameters, return_state=True)
        except (httpx.HTTPError, RuntimeError, OSError) as error:
            raise GenmodelError(_lost(error)) from error
    if not state.is_completed():
        kind = {OVER_BUDGET: BudgetError, BUSY: BusyError}.get(state.name, GenmodelError)
        raise kind(state.message or f"the flow ended {state.name}")


def begin(settings: Settings) -> None:
    """What a flow does first: it ends with the process that serves it and, as a run of a deployment, is known as this
    project's and stands in for the runs that were missed."""
    if os.environ.get(SERVED_BY):
        follow(int(os.environ[SERVED_BY]), signal.SIGKILL)  # the guards end its stages
        warn_in_one_line()
    context = FlowRunContext.get()
    if context and context.flow_run and context.flow_run.deployment_id:
        orphans.claim(context.flow_run.id, settings.root)
        if told := schedules.stand_in(context.flow_run):
            get_run_logger().warning(told)


def name_run(title: str) -> None:
    """Name the flow run that this is part of, in Prefect's pages."""
    with get_client(sync_client=True) as client:
        client.update_flow_run(UUID(str(flow_run.id)), name=title)


def _lost(error: Exception) -> str:
    what = masked(str(error).partition("\n")[0]) or type(error).__name__
    return f"Prefect's server at {masked(os.environ['PREFECT_API_URL'])} was lost ({what}): run again to go on"


def apply(settings: Settings) -> None:
    """Apply the line's environment to this process, and make Prefect, which read it at its import, read it again."""
    settings.apply()
    refresh_global_settings_context()
    warn_in_one_line()


def warn_in_one_line() -> None:
    """Keep tracebacks out of Prefect's warnings in this process: a lost connection is one line."""
    for handler in logging.getLogger().handlers:
        if _without_traceback not in handler.filters:
            handler.addFilter(_without_traceback)


def _without_traceback(record: logging.LogRecord) -> bool:
    if record.levelno == logging.WARNING and record.name.startswith("prefect."):
        record.exc_info = record.exc_text = None
    return True


@contextlib.contextmanager
def server(settings: Settings, ephemeral: bool = False) -> Iterator[None]:
    """Prefect's server for as long as the block lasts: that of PREFECT_API_URL, or one of this process's own.

    `ephemeral`: for one flow, without a scheduler. GenmodelError in one line if there is none.
    """
    apply(settings)
    if os.environ.get("PREFECT_API_URL"):
        check(os.environ["PREFECT_API_URL"])
        yield
        return
    _tell_neglect(settings)
    with own_server.running(settings, ephemeral) as address:
        refresh_global_settings_context()
        if not ephemeral:
            home = settings.environment["PREFECT_HOME"]
            print(f"Prefect's pages: {address}    (they ask for the line in {home}/auth)", flush=True)
        try:
            yield
        finally:
            APILogHandler().flush()  # else it is retried for a minute after the server has ended
            del os.environ["PREFECT_API_URL"]


def check(url: str) -> None:
    """GenmodelError unless a server answers at PREFECT_API_URL, within 15 s, and lets us in."""
    answers: list[int | Exception] = []

    def ask() -> None:
        try:
            answers.append(httpx.get(f"{url.rstrip('/')}/admin/version", auth=_auth(), timeout=11).status_code)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            answers.append(error)

    thread = threading.Thread(target=ask, daemon=True)  # a name server may take longer than any timeout of httpx
    thread.start()
    thread.join(12)
    answer = answers[0] if answers else "no answer within 12 s"
    if answer in (401, 403) and not os.environ.get("PREFECT_API_KEY"):
        raise GenmodelError(
            f"Prefect's server at {masked(url)} refuses access without credentials: set PREFECT_API_AUTH_STRING"
        )
    if not isinstance(answer, int) or answer >= 500:
        what = masked(str(answer).partition("\n")[0]) or type(answer).__name__
        raise GenmodelError(
            f"no Prefect server answers at PREFECT_API_URL={masked(url)} ({what}): start it, or unset PREFECT_API_URL "
            "for one that this command starts itself"
        )


def _auth() -> tuple[str, str] | None:
    """User and password of PREFECT_API_AUTH_STRING, if it is set; a PREFECT_API_KEY is not checked here."""
    user, colon, password = os.environ.get("PREFECT_API_AUTH_STRING", "").partition(":")
    return (user, password) if colon else None


def _tell_neglect(settings: Settings) -> None:
    """Say that the server of the user's own Prefect profile is not used: the project has a PREFECT_HOME of its own."""
    profiles = Path.home() / ".prefect" / "profiles.toml"
    if profiles.parent == Path(settings.environment["PREFECT_HOME"]):
        return
    try:
        content = tomllib.loads(profiles.read_text())
        chosen = content["profiles"][os.environ.get("PREFECT_PROFILE") or content["active"]]
        url = str(chosen["PREFECT_API_URL"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError):
        return
    print(f"note: PREFECT_API_URL={masked(url)} of {profiles} is not used; export it to use it", file=sys.stderr)
