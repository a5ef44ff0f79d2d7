"""A disk with too little room for a training, whatever the room: one clear line, nothing lost, and on when there is."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.showing import display
from genmodel.training.checkpoint import Checkpoints

QUOTAS = 50
SETTINGS = ["image_size=8", "images=96", "batch_size=16", "checkpoint_every=32", "log_every=16"]
SETTINGS += ["latent_dim=16", "base_channels=16"]


def room_taken(folder: Path) -> int:
    """KiB, in the disk's pages."""
    return sum(-(-path.stat().st_size // 4096) * 4 for path in folder.rglob("*"))


def ended(words: list[str]) -> int | str | None:
    """The command's exit code."""
    try:
        return main(words)
    except SystemExit as left:
        return left.code


@pytest.mark.fault("full disk")
@pytest.mark.slow
def test_any_of_50_quotas(
    block: Block, disk: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a page to more than a whole training takes: the checkpoint before the trouble can be loaded each time."""
    monkeypatch.setattr(display, "sample_moments", lambda images, per_step: {0, images})
    words = ["train", "vae", "--device", "cpu", "--data", str(block.path)]
    words += [word for one in SETTINGS for word in ("--set", one)]
    disk("64m")
    assert main(words) == 0
    expected = {path.name: path.read_bytes() for path in Path("models/vae").rglob("*") if path.is_file()}
    enough = 3 * room_taken(Path()) // 2  # on its way a training holds a third checkpoint and an unfinished folder
    failed: set[int] = set()
    for number in range(QUOTAS):
        shutil.rmtree("runs")
        shutil.rmtree("models")
        quota = 4 + number * enough // (QUOTAS - 1)
        disk(f"{quota}k")
        capsys.readouterr()
        if ended(words) == 2:
            said = capsys.readouterr().err
            assert said.startswith("error: no space left to write ") and said.count("\n") == 1, said
            assert said.endswith(": free some and run the same command again\n")
            failed.add(quota)
            for folder in Path().glob("runs/*/checkpoints"):
                found, warnings = Checkpoints(folder).latest()
                assert not warnings and (found is None) == (not list(folder.glob("*.json")))
            assert not Path("models/vae").exists()
        else:
            assert Path("models/vae/weights.safetensors").exists()
        disk("64m")
        assert main(words) == 0
        assert {path.name: path.read_bytes() for path in Path("models/vae").rglob("*") if path.is_file()} == expected
    print(f"{len(failed)} of {QUOTAS} quotas up to {enough} KiB were too small")
    assert QUOTAS // 2 < len(failed) < QUOTAS
