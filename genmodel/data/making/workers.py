"""Worker processes that run one task at a time: a pipe to each, no queues or threads in between."""

import contextlib
import gc
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing import Pipe, get_context
from multiprocessing.connection import Connection
from typing import Any

from genmodel.data.sources import stalls
from genmodel.errors import StorageError

_PROCESS = get_context("fork").Process if sys.platform == "linux" else get_context("spawn").Process


class Worker:
    """A worker process that calls functions with `about`, which it has from its start, and the arguments of `ask`.

    It is forked on Linux, and so shares what its parent has loaded; elsewhere forking is not safe.
    """

    def __init__(self, about: object) -> None:
        self.pipe, theirs = Pipe()
        self._process = _PROCESS(target=_serve, args=(theirs, about, os.getpid()), daemon=True)
        self._process.start()
        theirs.close()  # so that its end of the pipe is the only one, and a killed worker is noticed
        self.task: Any = None  # what it was asked for, as the caller names it; None: it is idle

    def ask(self, task: object, function: Callable[..., object], *args: object) -> None:
        """Let a worker call `function(about, *args)`, as `task`. It must be idle, so that no pipe fills up."""
        assert self.task is None
        self.task = task
        try:
            self.pipe.send((function, args))
        except OSError as error:
            raise _killed() from error

    def answer(self) -> tuple[Any, Any]:
        """The task and what the function returned, once `pipe` is ready; its error is raised here.

        StorageError if the worker was killed from outside.
        """
        try:
            failed, result = self.pipe.recv()
        except (EOFError, OSError) as error:
            raise _killed() from error
        if failed:
            raise result
        task, self.task = self.task, None
        return task, result

    def end(self) -> None:
        """End the process, whatever it is doing: its output stays valid after a kill at any moment."""
        self._process.kill()
        self._process.join()
        self.pipe.close()


def _killed() -> StorageError:
    fix = "run the same command again, with fewer --workers if memory ran out"
    return StorageError(f"a worker that prepared images was killed: {fix}")


def _serve(pipe: Connection, about: object, parent: int) -> None:
    """Run as a worker, which ends when its parent does, and leaves ctrl-C to it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    stalls.tell_by(lambda error: pipe.send((True, error)))  # this thread waits for the read, and does not use it
    gc.freeze()  # collecting what is inherited would copy it, page by page
    with contextlib.suppress(EOFError, BrokenPipeError):  # the parent is gone
        while True:
            pipe.send(_answer(about, *pipe.recv()))


def _answer(about: object, function: Callable[..., object], args: tuple[object, ...]) -> tuple[bool, object]:
    """Whether the function failed, and what it returned or raised."""
    try:
        return False, function(about, *args)
    except Exception as error:  # noqa: BLE001  # whatever it is, it is raised in the process that asked
        error.add_note(traceback.format_exc())
        return True, error


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)
