"""A checkpoint holds all that a resume needs, survives a power cut, and is believed only as it was written. Each
check is seen failing on the fault that it is there for."""

import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genmodel.data.block import Block
from genmodel.errors import CheckpointError
from genmodel.files import durable, tensors
from genmodel.showing.display import train
from genmodel.training.checkpoint import Checkpoint, Checkpoints
from genmodel.training.identity import Identity
from genmodel.training.trainer import run_folder


def state(number: int) -> Checkpoint:
    return Checkpoint(
        {"weight": torch.full((300,), float(number)), "step": torch.tensor(number)}, {"images_seen": number}
    )


class PowerCuts:
    """Watches a folder while it is written to: what would a power cut leave after each call to the system?

    Of a file, what was there at its last fsync. Of the names, those of the folder's last fsync, or those of now: a
    file system may write them down at any time between.
    """

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.rest = folder, folder.with_name("rest")
        self.synced: dict[int, bytes] = {}  # by inode
        self.names: dict[str, int] = {}
        self.warnings: list[str] = []
        self.looking = False
        fsync = os.fsync

        def synced(handle: int) -> None:
            fsync(handle)
            facts = os.fstat(handle)
            if stat.S_ISDIR(facts.st_mode):
                self.names = self.current()
            else:
                self.synced[facts.st_ino] = Path(f"/proc/self/fd/{handle}").read_bytes()
            self.look()

        patch.setattr(os, "fsync", synced)
        for name in ("open", "replace", "unlink"):
            patch.setattr(Path, name, self.looked_after(getattr(Path, name)))

    def looked_after(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: Path, *args: Any, **options: Any) -> Any:
            result = call(path, *args, **options)
            self.look()
            return result

        return wrapped

    def current(self) -> dict[str, int]:
        return {entry.name: entry.inode() for entry in os.scandir(self.folder)}

    def left(self, names: dict[str, int]) -> tuple[int, list[str]]:
        """The newest checkpoint after a cut, by its images_seen, -1 for none; and the damaged ones that count."""
        self.rest.mkdir(exist_ok=True)
        for path in self.rest.iterdir():
            path.unlink()
        for name, inode in names.items():
            (self.rest / name).write_bytes(self.synced.get(inode, b""))
        try:
            found, warnings = Checkpoints(self.rest).latest()
        except CheckpointError as error:
            return -1, [str(error)]
        return (found.facts["images_seen"] if found else -1), warnings

    def look(self) -> int:
        """Cut the power now: what would be the newest checkpoint?"""
        if self.looking:  # these calls are our own
            return -1
        self.looking = True
        newest = [self.left(names) for names in (self.names, self.current())]
        self.warnings += [word for _, words in newest for word in words]
        self.looking = False
        return min(number for number, _ in newest)


def in_place(path: Path, write: Callable[[Any], object], sync: bool = True) -> None:
    """durable.write_with without the rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as handle:
        write(handle)
        handle.flush()
        os.fsync(handle.fileno())
    durable.sync_folder(path.parent)


def without(fault: str, patch: pytest.MonkeyPatch) -> None:
    watched = os.fsync
    if fault == "fsync of the file":
        patch.setattr(os, "fsync", lambda handle: stat.S_ISDIR(os.fstat(handle).st_mode) and watched(handle))
    if fault == "fsync of the folder":
        patch.setattr(durable, "sync_folder", lambda folder: None)
    if fault == "rename":
        patch.setattr(durable, "write_with", in_place)


@pytest.mark.fault("damaged checkpoint")
@pytest.mark.parametrize("dropped", ["nothing", "fsync of the file", "fsync of the folder", "rename"])
def test_a_power_cut_leaves_a_whole_checkpoint(dropped: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any moment none that counts is damaged, and what `wait` has waited for is there."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc")
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    cuts = PowerCuts(folder, monkeypatch)
    without(dropped, monkeypatch)
    checkpoints, kept = Checkpoints(folder), []
    for number in (8, 16, 24, 32):
        checkpoints.save(state(number))
        checkpoints.wait()
        kept.append(cuts.look() == number)
    sound = all(kept) and not cuts.warnings
    assert sound == (dropped == "nothing"), (kept, cuts.warnings)


@pytest.mark.slow
def test_rows_are_on_disk_before_a_checkpoint_that_relies_on_them(
    block: Block, toy_identity: Callable[..., Identity], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or a power cut would leave a gap in the record."""
    identity = toy_identity("vae")
    metrics = run_folder(identity, tmp_path) / "metrics.jsonl"
    synced: dict[int, int] = {}  # bytes by inode
    fsync, save = os.fsync, Checkpoints.save
    behind: list[int] = []

    def note(handle: int) -> None:
        fsync(handle)
        synced[os.fstat(handle).st_ino] = os.fstat(handle).st_size

    def compare(self: Checkpoints, checkpoint: Checkpoint) -> None:
        if metrics.exists():
            behind.append(metrics.stat().st_size - synced.get(metrics.stat().st_ino, 0))
        save(self, checkpoint)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(Checkpoints, "save", compare)
    train(identity, block, tmp_path / "out", tmp_path)
    assert behind == [0] * 4


def flipped(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def unnoticed_flips(folder: Path, flips: int) -> int:
    """How many of `flips` single bits of the newest checkpoint's two files can be wrong without a word."""
    rng, missed = random.Random(0), 0
    for number in range(flips):
        victim = folder / ("000000000016.json" if number % 3 == 0 else "000000000016.safetensors")
        whole = victim.read_bytes()
        flipped(victim, rng)
        found, warnings = Checkpoints(folder).latest()
        assert found is not None
        if found.facts == state(8).facts and torch.equal(found.tensors["weight"], state(8).tensors["weight"]):
            assert len(warnings) == 1 and warnings[0].startswith("checkpoint 000000000016.safetensors is damaged: ")
        else:
            missed += 1
        victim.write_bytes(whole)
    return missed


def two(folder: Path) -> Path:
    checkpoints = Checkpoints(folder)
    for number in (8, 16):
        checkpoints.save(state(number))
    checkpoints.wait()
    return folder


@pytest.mark.fault("damaged checkpoint")
def test_every_flipped_bit_is_noticed_and_the_older_checkpoint_used(tmp_path: Path) -> None:
    assert unnoticed_flips(two(tmp_path), 300) == 0


def test_without_the_digest_check_flipped_bits_go_unnoticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = tensors.load
    monkeypatch.setattr(tensors, "load", lambda path, digest: real(path))
    assert unnoticed_flips(two(tmp_path), 300) > 150


@pytest.mark.fault("damaged checkpoint")
def test_no_whole_checkpoint_is_one_line_with_the_fix(tmp_path: Path) -> None:
    rng = random.Random(1)
    for path in sorted(two(tmp_path).glob("*.safetensors")):
        flipped(path, rng)
    with pytest.raises(
        CheckpointError,
        match=r"no checkpoint in .* can be read \(checkpoint 0+16\..*remove .* and run the same command again",
    ):
        Checkpoints(tmp_path).latest()


def test_the_last_two_are_kept_and_what_a_kill_left_is_removed(tmp_path: Path) -> None:
    checkpoints = Checkpoints(two(tmp_path))
    for left in (".000000000020.json.77.partial", "000000000020.safetensors"):
        (tmp_path / left).write_bytes(b"half")
    checkpoints.save(state(24))
    checkpoints.wait()
    stems = sorted(path.name for path in tmp_path.iterdir())
    assert stems == [f"0000000000{n}.{kind}" for n in (16, 24) for kind in ("json", "safetensors")]
