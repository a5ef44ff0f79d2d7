"""The locks of a project, files in it: a process that waits for one says for whom, and gives up after a time."""

import contextlib
import fcntl
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from genmodel.errors import BusyError, TrackingError
from genmodel.files import durable

PROJECT = Path(".dvc/tmp/retrain.lock")  # held by whoever retrains or cleans up
_SILENCE, _PATIENCE = 2.0, 600.0  # seconds until a wait is reported, and until it ends in an error


@contextlib.contextmanager
def held(path: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Hold the lock file `path`, against other processes and threads; TrackingError after `patience` seconds.

    The file names the holder. A lock ends with its process, however that ends; the file stays.
    """
    with path.open("a+") as handle:
        _wait(handle, path, patience)
        with contextlib.suppress(OSError):  # a full disk: then those who wait are not told for whom
            os.ftruncate(handle.fileno(), 0)
            os.pwrite(handle.fileno(), _myself().encode(), 0)
        yield


@contextlib.contextmanager
def project(root: Path, wait: bool = True) -> Iterator[None]:
    """Be the one process that retrains in `root`, or that cleans it up.

    If there is another one: wait for it, as long as it takes; or BusyError, which names it.
    """
    path = root / PROJECT
    with durable.storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(path, math.inf if wait else 0.0))
        except TrackingError as error:
            fix = "run again when it is done, or with --if-running wait"
            raise BusyError(f"{_holder(path)} is at work in {root}: {fix}") from error
        yield


def _wait(handle: IO[str], path: Path, patience: float) -> None:
    started, told = time.monotonic(), False
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            waited = time.monotonic() - started
        if waited >= patience:
            raise TrackingError(
                f"{path} has been held for {waited:.0f} s by {_holder(path)}: end it, or run again when it is done"
            )
        if waited > _SILENCE and not told:
            print(f"waiting for {path.name}, which {_holder(path)} holds", file=sys.stderr, flush=True)
            told = True
        time.sleep(0.02)


def _myself() -> str:
    words = " ".join(["python", *sys.orig_argv[1:]]).split()
    return f"process {os.getpid()} ({' '.join(words)[:120]})"


def _holder(path: Path) -> str:
    text = path.read_text(errors="replace").strip()
    return "".join(letter if letter.isprintable() else "?" for letter in text) or "another process"
