"""A disk that is full: one line, nothing good is lost, and the same command goes on when there is room."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.cli import main
from genmodel.data.block import Block

Grow = Callable[[str], None]


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(list(words))
    said = capsys.readouterr().err
    lines = [line for line in said.splitlines() if "resuming at" not in line]
    assert len(lines) == 1 and lines[0].startswith("error: no space left to write "), said
    assert lines[0].endswith("free some and run the same command again")


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.fault("full disk")
def test_prepare(block: Block, disk: Grow, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(block.path, "data")
    before = tree(Path("data"))
    words = ["prepare", str(block.path.parent / "raw"), "--sizes", "64", "--workers", "1"]
    fails(capsys, *words)
    fails(capsys, *words)
    assert tree(Path("data")) == before
    disk("8m")
    assert main(words) == 0
    assert Block.open(Path("data")).sizes == [(64, 64)]
    assert sorted(path.name for path in Path().iterdir()) == ["data", "data.contact.png"]


@pytest.mark.fault("full disk")
@pytest.mark.parametrize("room", ["200k", "440k", "560k"])
def test_train(room: str, block: Block, disk: Grow, capsys: pytest.CaptureFixture[str]) -> None:
    """Full at the first checkpoint, at a later one, at the end."""
    old = Path("models/vae/config.json")
    old.parent.mkdir(parents=True)
    old.write_text("a good model")
    settings = [
        "image_size=8",
        "images=96",
        "batch_size=32",
        "checkpoint_every=32",
        "latent_dim=16",
        "base_channels=16",
    ]
    words = ["train", "vae", "--data", str(block.path), *(word for one in settings for word in ("--set", one))]
    disk(room)
    fails(capsys, *words)
    fails(capsys, *words)
    assert tree(Path("models/vae")) == {"config.json": b"a good model"}
    disk("8m")
    assert main(words) == 0
    assert main(["sample", "models/vae"]) == 0
    assert [path.name for path in Path("models").iterdir()] == ["vae"]
    assert not list(Path().rglob("*.partial"))
