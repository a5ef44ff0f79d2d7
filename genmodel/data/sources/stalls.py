"""A source that does not answer, on a share that is gone, say: the process ends with one line that names the path.

    with reading(path):
        content = path.read_bytes()

A read from such a share cannot be interrupted from within, not even by a signal's handler; only the end of the process
ends it. So a thread watches how long reads last, and ends the process: nothing is lost by that, as by any kill.
"""

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from genmodel.errors import ConfigError, SourceError
from genmodel.output.progress import say

T = TypeVar("T")
_USUAL = 300.0  # seconds; a tape or a disk that was asleep may need one minute
_reads: dict[int, tuple[object, float]] = {}  # thread -> what it reads, and since when
_watching = 0  # the process whose reads are watched: a forked one has no thread yet


def _end(error: SourceError) -> None:
    say(f"error: {error}")


_tell: Callable[[SourceError], None] = _end


def tell_by(tell: Callable[[SourceError], None]) -> None:
    """What a process does with the error before it ends with exit code 2; otherwise it prints it."""
    global _tell
    _tell = tell


@contextlib.contextmanager
def reading(path: object) -> Iterator[None]:
    """Around one read of `path`, or several if each is in a `reading` of its own: those count one by one."""
    thread = threading.get_ident()
    if _watching != os.getpid():
        _watch()
    outer = _reads.get(thread)
    _reads[thread] = path, time.monotonic()
    try:
        yield
    finally:
        if outer is None:
            del _reads[thread]
        else:
            _reads[thread] = outer[0], time.monotonic()


def each_read(path: object, items: Iterable[T]) -> Iterator[T]:
    """`items`, each of which takes a read of `path`."""
    rest = iter(items)
    while True:
        with reading(path):
            item = next(rest, None)
        if item is None:
            return
        yield item


def patience() -> float:
    """GENMODEL_STALL, the seconds that a read may last; ConfigError if it is no number above 0."""
    text = os.environ.get("GENMODEL_STALL", "")
    try:
        seconds = float(text or _USUAL)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ConfigError(f"GENMODEL_STALL={text} must be a number of seconds above 0")
    return seconds


def _watch() -> None:
    global _watching
    most = patience()
    _reads.clear()  # those of the process that this one was forked from
    _watching = os.getpid()
    threading.Thread(target=_look, args=(most,), name="stalls", daemon=True).start()


def _look(most: float) -> None:
    while True:
        time.sleep(min(1.0, most / 4))
        now = time.monotonic()
        for path, since in list(_reads.values()):
            if now - since > most:
                _tell(
                    SourceError(
                        f"{path} has not answered for {most:g} s: see whether its disk or share is there, and run the "
                        "same command again (GENMODEL_STALL allows more seconds)"
                    )
                )
                os._exit(2)
