"""The record of a training: metrics.jsonl and sample grids in the run's folder. It is the truth; trackers follow it.

Rows are only ever appended. A resumed training repeats some steps with equal results: rows that are on disk already
are not written again, so that a follower that has read them needs no care.
"""

import bisect
import csv
import io
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image
from torch import Tensor

from genmodel import durable, pixels
from genmodel.errors import CheckpointError
from genmodel.training import rows

_TIMED = ("throughput/", "time/", "gpu/")  # metrics that differ from run to run: in the record, not in history.csv
SHOWN = 64  # samples in a grid
_LINEAR = 32  # parts of a training at whose ends a grid is drawn


class Record:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics = folder / "metrics.jsonl"
        self.samples = folder / "samples"
        with durable.storage_errors(self.samples):
            self.samples.mkdir(parents=True, exist_ok=True)
        self._drop_partial_line()
        found = self.rows()
        self._last = found[-1]["images_seen"] if found else -1

    def _drop_partial_line(self) -> None:
        """A kill can cut the last line short; what was cut will be written again."""
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

    def add_samples(self, images_seen: int, images: Tensor) -> None:
        """Keep a grid of uint8 [N, S, S, 3] samples; equal to the one that may be there from before a resume."""
        path = self.samples / f"{images_seen:010d}.png"
        if not path.exists():
            pixels.save_grid(path, images)

    def grids(self) -> dict[int, Path]:
        """The grids of samples by images seen, in their order."""
        return {int(path.stem): path for path in sorted(self.samples.glob("*.png"))}

    def timeline(self, columns: int) -> Image.Image:
        """The log-spaced grids as one picture, a row for each moment; `columns` images stand in a grid's row."""
        grids = self.grids()
        moments = {seen: Image.open(grids[seen]) for seen in log_spaced(grids)}
        return pixels.timeline(moments, columns, shown=columns)

    def rows(self) -> list[dict]:
        if not self.metrics.exists():
            return []
        try:
            found = [rows.from_line(line) for line in self.metrics.read_bytes().splitlines()]
            if all(isinstance(row["metrics"], dict) and row["images_seen"] >= 0 for row in found):
                return found
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(self._damaged()) from error
        raise CheckpointError(self._damaged())

    def _damaged(self) -> str:
        return f"{self.metrics} is damaged: remove {self.folder} and run the same command again, which starts anew"

    def history(self) -> str:
        """The rows as CSV without times: equal trainings that wrote their rows equally often give equal bytes.

        Where log_every was changed in mid-training the rows of either interval stand one after the other; each holds
        means over the steps since the row before.
        """
        found = self.rows()
        names = [name for name in (found[0]["metrics"] if found else {}) if not name.startswith(_TIMED)]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["images_seen", "step", *names])
        for row in found:
            writer.writerow([row["images_seen"], row["step"], *(f"{row['metrics'][name]:.6g}" for name in names)])
        return text.getvalue()


def sample_moments(images: int, images_per_step: int) -> set[int]:
    """The images_seen at which grids are drawn: the start, the end, and between them log-spaced and linearly spaced.

    The log-spaced are the powers of two in the last ten doublings: models of unlike budgets are drawn at the same
    moments and can lie side by side. Early on they show what happens at once, as in the replays of OpenAI's 2016 post,
    where a VAE's training is shown in logarithmic time; the linear ones, 32 equal parts, are for its GANs in linear
    time. Each is rounded up to whole steps.
    """
    end = _whole_steps(images, images_per_step)
    powers = {2**k for k in range(end.bit_length()) if end / 1024 <= 2**k < end}
    parts = {-(-end * part // _LINEAR) for part in range(_LINEAR + 1)}
    return {_whole_steps(moment, images_per_step) for moment in powers | parts}


def _whole_steps(images: int, images_per_step: int) -> int:
    return -(-images // images_per_step) * images_per_step


def log_spaced(moments: Iterable[int]) -> list[int]:
    """Of sample_moments those that are powers of two, rounded up as they are, and the first and the last."""
    ordered = sorted(moments)
    powers = [2**k for k in range(ordered[-1].bit_length())]
    # moments are whole steps: nothing lies between a power and the moment to which it was rounded up
    return sorted({ordered[0], ordered[-1]} | {ordered[bisect.bisect_left(ordered, power)] for power in powers})
