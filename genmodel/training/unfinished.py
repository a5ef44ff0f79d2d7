"""Unfinished trainings of a model with an earlier recipe: a changed recipe must not hide them."""

import json
from pathlib import Path
from typing import NamedTuple

from genmodel.training.checkpoint import images_on_disk
from genmodel.training.identity import Identity, differences


class Unfinished(NamedTuple):
    """`seen` of `budget` images were trained in `folder`; `changes` make today's training another one."""

    folder: Path
    seen: int
    budget: int
    changes: list[str]

    def line(self, name: str) -> str:
        """One line about it, with the way to finish it."""
        return (
            f"{name}: a new training starts ({'; '.join(self.changes)}); the one before is in {self.folder}, at "
            f"{self.seen:,} of {self.budget:,} images: to finish it, restore what is before the arrows and run "
            "the same command again"
        )


def latest_unfinished(runs: Path, mine: Identity) -> Unfinished | None:
    """The most recent unfinished training in `runs` of the model of `mine`, with another recipe, data or code. What
    cannot be read there is skipped."""
    found = [each for path in runs.glob("*/identity.json") if (each := _unfinished(path, mine))]
    return max(found, key=lambda each: (each.folder / "checkpoints").stat().st_mtime_ns, default=None)


def _unfinished(path: Path, mine: Identity) -> Unfinished | None:
    folder = path.parent
    try:
        theirs = json.loads(path.read_bytes())
        if theirs["name"] != mine.name or theirs["fingerprint"] == mine.fingerprint:
            return None
        budget = int(theirs["config"]["training"]["images"])
        changes = differences(theirs, mine)
    except (OSError, RecursionError, ValueError, KeyError, TypeError, AttributeError):
        return None
    seen = images_on_disk(folder / "checkpoints")
    return Unfinished(folder, seen, budget, changes) if 0 < seen < budget else None
