"""Imports that take seconds of CPU: a quarter of it is Python's garbage collector, which visits it all repeatedly."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import in this block without the collector; what there is at its end stays, and is never visited again.

    Cycles that cannot be reached at the end of the block are kept, too: only import in it.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def leave(status: int) -> NoReturn:
    """End the process. What is left goes with it: to collect all of torch, too, takes half a second of CPU."""
    gc.freeze()
    sys.exit(status)
