"""A progress bar with rate and time left: tqdm if it is installed and the bar is shown, else nothing."""

import sys
import threading
from typing import Protocol

from genmodel.output.masking import masked
from genmodel.output.printable import printable

# For this process only: tqdm's own lock is shared with forked processes, and one killed holding it never frees it.
_LOCK = threading.RLock()
_LOG_LINE = "{desc}: {percentage:.0f}% of {total_fmt}, {rate_fmt}, {remaining} left{postfix}"


class Bar(Protocol):
    def update(self, n: int) -> object: ...
    def set_postfix_str(self, s: str, refresh: bool) -> object: ...
    def close(self) -> object: ...


class _Silent:
    def update(self, n: int) -> None: ...
    def set_postfix_str(self, s: str, refresh: bool) -> None: ...
    def close(self) -> None: ...


def bar(total: int, done: int, what: str, unit: str = " images", shown: bool = True) -> Bar:
    """A bar for `total` units of work, of which `done` are finished.

    On a terminal it redraws in place; in a log (a Prefect task's, say) it prints a line after five seconds, and then
    one every ten. It prints nothing if not `shown`.
    """
    if not shown:
        return _Silent()
    try:
        from tqdm import tqdm
    except ImportError:
        return _Silent()
    tqdm.set_lock(_LOCK)
    watched = sys.stderr.isatty()
    shown_bar = tqdm(
        total=total,
        initial=done,
        desc=what,
        unit=unit,
        unit_scale=True,
        mininterval=0.2 if watched else 10,
        maxinterval=10,
        delay=0 if watched else 5,
        ncols=100 if watched else None,
        bar_format=None if watched else _LOG_LINE,
        file=sys.stderr if watched else _Lines(),
    )
    if not watched:
        shown_bar.last_print_t -= 5
    return shown_bar


def say(line: str) -> None:
    """Print a line for the person at the terminal or the log, masked; not to stdout, which is for results."""
    print(printable(masked(line)), file=sys.stderr, flush=True)


class _Lines:
    """tqdm redraws with carriage returns; a log needs lines."""

    def write(self, text: str) -> None:
        line = text.replace("\r", "").strip()
        if line:
            say(line)

    def flush(self) -> None: ...
