"""Every error that a user can cause or must act on.

    GenmodelError                 one line: what is wrong, where, and the fix; the command line exits with 2
    |-- ConfigError               params.yaml or --set: unknown key, wrong type, out of range
    |-- SourceError               raw images: missing, empty, unreadable, too many rejects
    |-- DataLimitError            new data beyond a limit of params.yaml
    |-- BlockError                the block: missing, damaged, of another version, without a size or a split
    |-- ModelError                a trained model's folder: missing, damaged, of another family
    |-- CheckpointError           a checkpoint that cannot be read
    |   `-- SettingsChangedError  a resume with other settings
    |-- TrainingDivergedError     losses that are no longer numbers
    |-- EvaluationError           features or figures that cannot be computed
    |   `-- IncomparableError     figures made under different conditions
    |-- StorageError              no space left, no permission
    |-- TrackingError             the MLflow server or its registry
    |-- VersioningError           DVC and its files
    |-- BusyError                 another process is at work in the project; exits with 75: run again later
    `-- BudgetError               more GPU hours or energy than allowed; exits with 77

A programmer's mistake is an assert, never one of these. `user_errors` is how an entry point shows them.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterator

from genmodel.output.printable import printable
from genmodel.output.progress import say

_SILENCE = 10  # seconds in which torchrun ends the other processes after the first has failed


class GenmodelError(Exception):
    """Base of all errors that are shown to the user as one line, whatever names it quotes."""

    exit_code = 2  # of the command line

    def __str__(self) -> str:
        return printable(super().__str__())


class ConfigError(GenmodelError):
    pass


class SourceError(GenmodelError):
    pass


class DataLimitError(GenmodelError):
    pass


class BlockError(GenmodelError):
    pass


class ModelError(GenmodelError):
    pass


class CheckpointError(GenmodelError):
    pass


class SettingsChangedError(CheckpointError):
    pass


class TrainingDivergedError(GenmodelError):
    pass


class EvaluationError(GenmodelError):
    pass


class IncomparableError(EvaluationError):
    pass


class StorageError(GenmodelError):
    pass


class TrackingError(GenmodelError):
    pass


class FollowedError(TrackingError):
    """Another process is sending the record of the same training."""


class VersioningError(GenmodelError):
    pass


class BusyError(GenmodelError):
    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class BudgetError(GenmodelError):
    exit_code = 77  # EX_NOPERM


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Show a GenmodelError as one line and exit with its code, mostly 2. Ctrl-C exits quietly with 130, a closed pipe
    (`| head`) with 141. Other users cannot write to our files.

    Of torchrun's processes the first prints: the others mostly hit the same error, and are ended before they print it.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a class name may have letters that the terminal lacks
        sys.stdout.reconfigure(errors="backslashreplace")
    os.umask(os.umask(0o022) | 0o022)  # only the owner can change what this process and its children write
    try:
        yield
    except GenmodelError as error:
        if not is_main_process():
            time.sleep(_SILENCE)
        say(f"error: {error}")
        raise SystemExit(error.exit_code) from error
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or the interpreter would hit it again on exit
        raise SystemExit(141) from error
    except KeyboardInterrupt as error:
        if is_main_process():
            say("stopped; run the same command again to continue")
        raise SystemExit(130) from error


def is_main_process() -> bool:
    """Whether this is the one of torchrun's processes that prints."""
    return os.environ.get("RANK", "0") == "0"
