"""A project that was copied or moved: MLflow keeps absolute paths in its sqlite file."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote, urlsplit

from genmodel.output.progress import say

_COLUMNS = (
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_PLACES = """select distinct artifact_location from experiments where name = ? or experiment_id in (
    select experiment_id from runs join tags using (run_uuid) where tags.key = 'genmodel.fingerprint')"""


def bring_here(database: Path, artifacts: Path, experiment: str) -> None:
    """Make the paths in the sqlite file `database` that lead to the folder beside its old place lead to `artifacts`.

    A copy would write into the original, and what was moved would be missing. Other paths stay as they are.
    All in one transaction; sqlite3.Error where the file is damaged or may not be written.
    """
    with closing(sqlite3.connect(database, timeout=60, isolation_level=None)) as connection:
        for old in _old_places(connection, artifacts, experiment, database.name):
            connection.execute("begin immediate")
            for table, column in _COLUMNS:
                connection.execute(
                    f"update {table} set {column} = ? || substr({column}, ?) where {column} = ? "
                    f"or substr({column}, 1, ?) = ?",
                    (artifacts.as_uri(), len(old) + 1, old, len(old) + 1, f"{old}/"),
                )
            connection.execute("commit")
            say(f"this project was moved or copied: MLflow's files are in {artifacts} now, no longer in {_path(old)}")


def _old_places(connection: sqlite3.Connection, artifacts: Path, experiment: str, database: str) -> Iterator[str]:
    for (place,) in connection.execute(_PLACES, (experiment,)).fetchall():
        old = _path(place)
        if old is None or old.name != artifacts.name or old == artifacts or _is_same(old, artifacts):
            continue
        # not a folder that someone chose elsewhere: that one exists, is no project's, and there is none here
        if artifacts.exists() or not old.exists() or (old.parent / database).exists():
            yield place


def _path(place: str) -> Path | None:
    """The path of a file URI or of an absolute path; None for anything else."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return Path(place) if place.startswith("/") else None


def _is_same(old: Path, new: Path) -> bool:
    """Whether both paths lead to one folder: by a symbolic link or a bind mount."""
    try:
        return old.samefile(new)
    except OSError:
        return False
