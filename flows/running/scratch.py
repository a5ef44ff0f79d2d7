"""Temporary folders in the project: TMPDIR may be a small disk, and the project has room for its own models."""

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from genmodel.errors import StorageError
from genmodel.files import durable

_PREFIX = "mlflow.db.scratch-"  # of the names that git ignores
_YOUNG = 3600  # seconds: a folder that was just made is not yet locked


@contextlib.contextmanager
def scratch(root: Path, needed: int = 0) -> Iterator[Path]:
    """An empty folder in the project `root`, removed at the end; StorageError without `needed` free bytes.

    Until then libraries write their temporary files beside it: MLflow copies what it packs and loads.

    torch's archive writer aborts the process on a full disk: so its callers say how much is `needed`.
    """
    _sweep(root)
    if (free := shutil.disk_usage(root).free) < needed:
        raise StorageError(
            f"no space left to write a model in {root}: {needed >> 20:,} MiB are needed, {free >> 20:,} MiB are free;"
            " free some and run the same command again"
        )
    with durable.storage_errors(root):
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
    handle, before = os.open(folder, os.O_RDONLY), tempfile.tempdir
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        room, aside = folder / "room", folder / "tmp"
        with durable.storage_errors(root):
            room.mkdir()
            aside.mkdir()
        tempfile.tempdir = str(aside)
        yield room
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _sweep(root: Path) -> None:
    """Remove what killed processes have left: nobody holds a lock on it."""
    for folder in root.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # gone, or in use
            if time.time() - folder.stat().st_mtime < _YOUNG:
                continue
            handle = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(handle)
