"""How an entry point ends: a user's mistake is one line and exit status 2."""

import contextlib
import os
import time
from collections.abc import Iterator

from genmodel.errors import GenmodelError
from genmodel.output.progress import say

_SILENCE = 10  # seconds in which torchrun ends the other processes after the first has failed


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Show a GenmodelError as one line and exit with 2; a Ctrl-C leaves quietly with 130. Others write nothing of ours.

    Of torchrun's processes the first speaks: the others mostly meet the same error, and are ended before they say so.
    """
    os.umask(os.umask(0o022) | 0o022)  # whatever is written from here on, here or in a child, only the owner changes
    try:
        yield
    except GenmodelError as error:
        if not is_main_process():
            time.sleep(_SILENCE)
        say(f"error: {error}")
        raise SystemExit(2) from error
    except KeyboardInterrupt as error:
        if is_main_process():
            say("stopped; the same command goes on from here")
        raise SystemExit(130) from error


def is_main_process() -> bool:
    """Whether this is the one of torchrun's processes that speaks."""
    return os.environ.get("RANK", "0") == "0"
