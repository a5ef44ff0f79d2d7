"""How a flow is started from the command line, and how it ends: a GenmodelError is one line, never a traceback."""

import contextlib
import functools
import os
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Flow
from prefect.context import refresh_global_settings_context
from prefect.exceptions import FailedRun
from prefect.logging.handlers import APILogHandler
from prefect.states import Failed

from flows.guard import Guard
from flows.settings import Settings
from flows.versioning import LockConflictError
from genmodel.errors import GenmodelError
from genmodel.masking import masked

P = ParamSpec("P")
R = TypeVar("R")

LOCK_CONFLICT = "LockConflict"  # the name of a failed state: the one that is worth another try
_LOCAL_SERVER = "http://127.0.0.1:4200"
_START_UP = 90  # seconds that a server may take for it


def one_line(step: Callable[P, R]) -> Callable[P, R]:
    """Make a task or flow end Failed with a GenmodelError's line; raised, it would fill the log with its traceback.

    Prefect takes a state that is returned for the end state. A flow calls such a task with `return_state=True` and asks
    for the `result()`, which raises FailedRun.
    """

    @functools.wraps(step)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return step(*args, **kwargs)
        except LockConflictError as error:
            return cast(R, Failed(name=LOCK_CONFLICT, message=masked(str(error))))
        except (GenmodelError, FailedRun) as error:
            return cast(R, Failed(message=masked(str(error))))

    return wrapped


def run(flow: Flow[..., Any], settings: Settings, **parameters: Any) -> None:
    """Run a flow here, on the server of PREFECT_API_URL or on an embedded one; GenmodelError when it fails."""
    apply(settings)
    state: Any = flow(**parameters, return_state=True)
    if not state.is_completed():
        raise GenmodelError(state.message or f"the flow ended {state.name}")


def apply(settings: Settings) -> None:
    """Make the line's environment this process's own; Prefect has read it before, at its import."""
    settings.apply()
    refresh_global_settings_context()


@contextlib.contextmanager
def server(settings: Settings) -> Iterator[None]:
    """Prefect's server for as long as the block lasts: that of PREFECT_API_URL, or one on this machine.

    Schedules need it: the server that is embedded in a flow has no scheduler. GenmodelError if it does not start.
    """
    if os.environ.get("PREFECT_API_URL"):
        apply(settings)
        yield
        return
    os.environ["PREFECT_API_URL"] = f"{_LOCAL_SERVER}/api"
    apply(settings)
    with Guard() as guard:
        if not _answers():
            command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", "4200"]
            thread = threading.Thread(target=guard.run, args=(command, print), daemon=True)
            thread.start()
            _wait_until_it_answers(thread)
        try:
            yield
        finally:
            APILogHandler().flush()  # or else it is tried for a minute when there is no server any more


def _wait_until_it_answers(thread: threading.Thread) -> None:
    ends = time.monotonic() + _START_UP
    while not _answers():
        if not thread.is_alive() or time.monotonic() > ends:
            raise GenmodelError(f"no Prefect server starts at {_LOCAL_SERVER}: set PREFECT_API_URL to one that runs")
        time.sleep(0.5)


def _answers() -> bool:
    try:
        with urllib.request.urlopen(f"{_LOCAL_SERVER}/api/health", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
