"""What the output of `dvc repro` of one stage means: all of DVC's failures exit with 255."""

import re
from collections.abc import Sequence

_BUSY = ("Unable to acquire lock", "is busy, it is being blocked by")
_ADVICE = ("To track the changes with git", "\tgit add ", "To enable auto staging", "\tdvc config ", "Use `dvc push`")
_STARTED = "Running stage '"
_ERROR = "ERROR: "


def is_worth_reading(line: str) -> bool:
    """Whether a line of `dvc repro` is neither empty nor the advice that it prints after every stage."""
    return bool(line.strip()) and not line.startswith(_ADVICE)


def is_lock_conflict(output: Sequence[str]) -> bool:
    """Whether a failed `dvc repro` found another process at work before it began, so that trying again is right.

    All of DVC's failures exit with 255; the output tells them apart. A conflict after the stage's own command has
    started does not count: a finished training must not be repeated unasked.
    """
    errors = [line for line in output if line.startswith(_ERROR)]
    started = any(line.startswith(_STARTED) for line in output)
    return not started and any(sign in line for line in errors for sign in _BUSY)


def failure(output: Sequence[str]) -> str:
    """Why a `dvc repro` failed, in one line: the last word of the stage's own command, or DVC's error."""
    said = [line.strip() for line in output if line.strip()]
    place = next((i for i, line in enumerate(said) if line.startswith(_ERROR)), len(said))
    error = said[place].removeprefix(_ERROR) if place < len(said) else "it ended without a message"
    if "failed to run:" in error and place > 0 and not said[place - 1].startswith("> "):
        return re.sub(r"^error: ", "", said[place - 1])
    return error
