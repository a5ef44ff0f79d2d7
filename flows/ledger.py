"""The promotion ledger: promotions.jsonl in the project, a line an event, only ever appended to.

Whoever reads or appends holds Registry.promotion(): the file itself knows no lock. It is no out of DVC, which would
delete it before a stage runs, and not in git, whose branches would make several of it.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodel import durable
from genmodel.errors import TrackingError

NAME = "promotions.jsonl"


class Ledger:
    """Events of a project, the oldest first."""

    def __init__(self, root: Path) -> None:
        self.path = root / NAME

    def events(self) -> list[dict[str, Any]]:
        """All whole lines; TrackingError for one that is damaged. A line that was cut off was never acted upon."""
        return [self._event(number, line) for number, line in enumerate(self._lines(), start=1)]

    def append(self, event: Mapping[str, Any]) -> None:
        """Add a line; it is on disk when this returns."""
        line = json.dumps(event, sort_keys=True, allow_nan=False).encode() + b"\n"
        with durable.storage_errors(self.path):
            is_new = not self.path.exists()
            handle = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.ftruncate(handle, sum(map(len, self._lines())))  # what was left of a line that was cut off
                written = os.write(handle, line)
                if written != len(line):  # a disk that fills up says so at the next write
                    os.write(handle, line[written:])
                os.fsync(handle)
            finally:
                os.close(handle)
            if is_new:
                durable.sync_folder(self.path.parent)

    def _lines(self) -> list[bytes]:
        if not self.path.exists():
            return []
        return [line for line in self.path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def _event(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            event = json.loads(line)
            if isinstance(event, dict) and {"id", "event", "time"} <= event.keys():
                return event
        except ValueError:
            pass
        raise TrackingError(f"{self.path}, line {number} is damaged: take the file back from a copy, or mend the line")
