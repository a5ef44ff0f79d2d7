"""A file system that is read-only: one line that names the path, and what was there stays."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.cli import main
from genmodel.data.block import Block


@pytest.mark.fault("read-only folder")
@pytest.mark.parametrize("command", ["prepare", "train"])
def test_nothing_can_be_written(
    command: str, block: Block, disk: Callable[[str], None], capsys: pytest.CaptureFixture[str]
) -> None:
    disk("8m")
    Path("models/vae").mkdir(parents=True)
    Path("models/vae/config.json").write_text("a good model")
    words = {
        "prepare": ["prepare", str(block.path.parent / "raw"), "--sizes", "8", "--workers", "1"],
        "train": ["train", "vae", "--data", str(block.path), "--set", "image_size=8", "--set", "batch_size=8"],
    }[command]
    subprocess.run(["mount", "-o", "remount,ro", str(Path.cwd())], check=True)
    capsys.readouterr()
    with pytest.raises(SystemExit, match="2"):
        main(words)
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: not allowed to write ") and said.endswith(": Read-only file system")
    assert [path.read_text() for path in Path().rglob("*") if path.is_file()] == ["a good model"]
