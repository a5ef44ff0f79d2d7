"""Imports that take seconds of CPU: a quarter of that goes into Python's garbage collector, which is kept out here."""

import contextlib
import gc
import sys
from collections.abc import Iterator
from typing import NoReturn


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Import in this block without the garbage collector; what exists at its end is never visited by it again.

    Unreachable cycles that exist by then are never freed: do nothing but import in the block.
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
    """End the process without a last garbage collection, which takes half a second of CPU when torch is loaded."""
    gc.freeze()
    sys.exit(status)
