"""A project that was copied or moved: MLflow writes absolute places into its sqlite file, for ever."""

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
    """Let what the sqlite file `database` says of a folder beside its old place mean `artifacts`, beside it now.

    A copy would write into the original, and what was moved would be missing. Rows of other places stay as they are.
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
        # a folder that someone chose is elsewhere on purpose: it is there, nothing is here, and no project's
        if artifacts.exists() or not old.exists() or (old.parent / database).exists():
            yield place


def _path(place: str) -> Path | None:
    """Of a file URI or an absolute path; None of anything else."""
    if place.startswith("file:"):
        return Path(unquote(urlsplit(place).path))
    return Path(place) if place.startswith("/") else None


def _is_same(old: Path, new: Path) -> bool:
    """Whether one folder is reached on two ways: a symbolic link, a bind mount."""
    try:
        return old.samefile(new)
    except OSError:
        return False
