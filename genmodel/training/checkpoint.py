"""Checkpoints: one tensor file with everything a resume needs, checked by its digest; the last two are kept.

A checkpoint is copied at once and written by a background thread: the loop waits for the disk only if the next one is
due before the last is written, and at the end.
"""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from genmodel.errors import CheckpointError, ModelError
from genmodel.files import durable, tensors

_KEPT = 2
_STOPPED = "-stopped"  # ends the name of a checkpoint that a signal asked for


def images_on_disk(folder: Path) -> int:
    """The images seen by the newest checkpoint in a folder of checkpoints, by its name; 0 if there is none."""
    names = [path.stem.removesuffix(_STOPPED) for path in folder.glob("*.json")]
    return max((int(name) for name in names if name.isdigit()), default=0)


@dataclass(frozen=True)
class Checkpoint:
    """`tensors` by dotted name; `facts`: what is not a tensor (images_seen, ...); `stopped`: a signal asked for it."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    stopped: bool = False


class Checkpoints:
    """The folder of one run's checkpoints: <images_seen>.safetensors, which holds the facts too, then
    <images_seen>.json with its digest. A file without its digest was never finished and does not count.

    The checkpoint of a stopped training has its own name and replaces no other: a training that diverges later goes
    back to the same regular one as if it had never been stopped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer = ThreadPoolExecutor(1, "checkpoint")
        self._writing: Future[None] | None = None

    def save(self, checkpoint: Checkpoint) -> None:
        """Copy a checkpoint and start writing it; StorageError if the one before could not be written."""
        copied = {name: value.detach().clone() for name, value in checkpoint.tensors.items()}
        self.wait()
        self._writing = self._writer.submit(self._write, replace(checkpoint, tensors=copied))

    def wait(self) -> None:
        """Wait until the last checkpoint is on disk; StorageError if it could not be written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, checkpoint: Checkpoint) -> None:
        name = f"{checkpoint.facts['images_seen']:012d}{_STOPPED if checkpoint.stopped else ''}"
        facts = {"facts": json.dumps(checkpoint.facts)}
        digest = tensors.save(self.folder / f"{name}.safetensors", checkpoint.tensors, facts)
        durable.write_json(self.folder / f"{name}.json", {"sha256": digest})
        self._tidy(name)

    def _tidy(self, newest: str) -> None:
        """Remove older checkpoints, and partial ones left by a kill."""
        kept = {manifest.stem for manifest in self._finished(regular=True)[-_KEPT:]} | {newest}
        for path in sorted(self.folder.iterdir()):  # a manifest before its tensors
            if path.stem not in kept:
                path.unlink()

    def latest(self, regular: bool = False) -> tuple[Checkpoint | None, list[str]]:
        """The newest intact checkpoint (None if there are none at all), and a warning for each damaged one that was
        skipped. `regular`: only those that no signal asked for. CheckpointError if there are some and all are
        damaged."""
        self.wait()
        warnings: list[str] = []
        for manifest in reversed(self._finished(regular)):
            try:
                return self._load(manifest), warnings
            except CheckpointError as error:
                warnings.append(str(error))
        if warnings:
            raise CheckpointError(
                f"no checkpoint in {self.folder} can be read ({warnings[0]}): remove {self.folder.parent} and run "
                "the same command again to start over"
            )
        return None, warnings

    def _load(self, manifest: Path) -> Checkpoint:
        path = manifest.with_suffix(".safetensors")
        try:
            content = json.loads(manifest.read_bytes())
            loaded, strings = tensors.load(path, content["sha256"])
            return Checkpoint(loaded, json.loads(strings["facts"]))
        except (OSError, RecursionError, ValueError, KeyError, TypeError, ModelError) as error:
            raise CheckpointError(f"checkpoint {path.name} is damaged: {error}") from error

    def _finished(self, regular: bool = False) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.json") if not (regular and path.stem.endswith(_STOPPED)))
