"""The record of a training: metrics.jsonl in the run's folder. It is the source of truth; trackers follow it.

Rows are only ever appended. A resumed training repeats some steps with equal results: rows already on disk are not
written again, so that a follower that has read them need not check.
"""

import csv
import io
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genmodel.errors import CheckpointError
from genmodel.files import durable
from genmodel.training import rows

_TIMED = ("throughput/", "time/", "gpu/")  # metrics that differ from run to run: in the record, not in history.csv


class Record:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = folder / "metrics.jsonl"
        with durable.storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        self._drop_partial_line()
        found = self.rows()
        self._last = found[-1]["images_seen"] if found else -1

    def _drop_partial_line(self) -> None:
        """A kill can truncate the last line; it will be written again."""
        content = self.metrics.read_bytes() if self.metrics.exists() else b""
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.metrics, whole)

    def add(self, step: int, images_seen: int, metrics: Mapping[str, float], order: str = "") -> None:
        """`order` is the loader's digest of the images shown so far, in their order."""
        if images_seen <= self._last:
            return
        row: dict[str, object] = {"step": step, "images_seen": images_seen, "time_ms": time.time_ns() // 1_000_000}
        row |= {"order": order, "metrics": metrics}
        with durable.storage_errors(self.metrics), self.metrics.open("a") as handle:
            handle.write(rows.as_line(row))
        self._last = images_seen

    def sync(self) -> None:
        """Make the rows survive a power cut; a checkpoint that is on disk may rely on them."""
        if self.metrics.exists():
            with durable.storage_errors(self.metrics), self.metrics.open("a") as handle:
                os.fsync(handle.fileno())

    def rows(self) -> list[dict[str, Any]]:
        if not self.metrics.exists():
            return []
        try:
            found = [rows.from_line(line) for line in self.metrics.read_bytes().splitlines()]
            if all(isinstance(row["metrics"], dict) and row["images_seen"] >= 0 for row in found):
                return found
        except (RecursionError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(self._damaged()) from error
        raise CheckpointError(self._damaged())

    def _damaged(self) -> str:
        return f"{self.metrics} is damaged: remove {self.folder} and run the same command again to start over"

    def history(self) -> str:
        """The rows as CSV without times: equal trainings with the same log_every give equal bytes.

        If log_every changed mid-training, rows of both intervals follow each other; each holds means over the steps
        since the previous row.
        """
        found = self.rows()
        names = [name for name in (found[0]["metrics"] if found else {}) if not name.startswith(_TIMED)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["images_seen", "step", *names])
        for row in found:
            writer.writerow([row["images_seen"], row["step"], *(f"{row['metrics'][name]:.6g}" for name in names)])
        return text.getvalue()
