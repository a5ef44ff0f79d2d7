"""Prefect's history in the project's own database: old runs with their logs, artifacts and events.

A server of others cleans up itself (PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED=events,flow_runs): its database is not
touched. A server that serves this project may be at work on the file at the same time.
"""

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
_BATCH = 100  # runs in one transaction, so that a server never waits long
_OLD = f"select id from flow_run where state_type in {_ENDED} and tags like ? order by end_time desc limit -1 offset ?"
_OF_RUN = "flow_run_id in ({})"
_EVENTS = "select event_id from event_resources where resource_id in ({})"


def old(home: Path, project: str, last: int) -> tuple[int, list[str]]:
    """How many runs with the tag `project` stay, and the ids of those that ended before the `last` ones.

    An empty tag: all runs.
    """
    path = home / "prefect.db"
    if os.environ.get("PREFECT_API_DATABASE_CONNECTION_URL") or not path.exists():
        return 0, []
    with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
        tagged = f'%"{project}"%' if project else "%"
        count = connection.execute("select count(*) from flow_run where tags like ?", (tagged,)).fetchone()[0]
        found = [row[0] for row in connection.execute(_OLD, (tagged, last))]
        return count - len(found), found


def remove(home: Path, runs: list[str]) -> None:
    """Remove runs, with their tasks, logs, artifacts and events, and give the room back, if no server uses the file."""
    with contextlib.closing(sqlite3.connect(home / "prefect.db", timeout=60, isolation_level=None)) as connection:
        connection.execute("pragma foreign_keys = on")  # tasks and states go with their run
        for batch in _batches(runs):
            connection.execute("begin immediate")
            _remove(connection, batch)
            connection.execute("commit")
        connection.execute("delete from csrf_token where expiration < datetime('now')")
        with contextlib.suppress(sqlite3.OperationalError):  # in use: the pages are free all the same
            connection.execute("vacuum")


def _remove(connection: sqlite3.Connection, runs: list[str]) -> None:
    marks = ",".join("?" * len(runs))
    resources = [f"prefect.flow-run.{run}" for run in runs]
    for event in {row[0] for row in connection.execute(_EVENTS.format(marks), resources)}:
        connection.execute("delete from event_resources where event_id = ?", (event,))
        connection.execute("delete from events where id = ?", (event,))
    gone = f"artifact where {_OF_RUN.format(marks)}"
    connection.execute(f"delete from artifact_collection where latest_id in (select id from {gone})", runs)
    connection.execute(f"delete from {gone}", runs)
    connection.execute(f"delete from log where {_OF_RUN.format(marks)}", runs)
    connection.execute(f"delete from flow_run where id in ({marks})", runs)


def _batches(runs: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(runs), _BATCH):
        yield runs[first : first + _BATCH]
