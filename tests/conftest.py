"""What many tests need: a small block of bright and dark squares in two classes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.data.prepare import prepare

SHARED = Path(__file__).parent.parent.parent / "shared" / "data"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Many threads only get in each other's way on images this small."""
    torch.set_num_threads(1)


def draw_images(folder: Path, per_class: int = 30, size: int = 12) -> Path:
    """Class folders `circle` and `square` with noisy PNGs, the same each time."""
    noise = np.random.default_rng(5)
    for name in ("circle", "square"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            image = noise.integers(0, 60, (size, size, 3))
            rows, columns = np.ogrid[:size, :size]
            inside = (rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / 3) ** 2
            if name == "square":
                inside = (abs(rows - size / 2) < size / 3) & (abs(columns - size / 2) < size / 3)
            image[inside] += 150
            Image.fromarray(image.astype(np.uint8)).save(folder / name / f"{number:03d}.png")
    return folder


@pytest.fixture(scope="session")
def block(tmp_path_factory: pytest.TempPathFactory) -> Block:
    """60 images at 8 px in two classes."""
    folder = tmp_path_factory.mktemp("block")
    return prepare(str(draw_images(folder / "raw")), folder / "data", [8], workers=1)


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """shared_data(name) -> a file of the real images beside the project; skips the test where they are absent."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"needs {name} of ../shared/data")
        return SHARED / name

    return find


@pytest.fixture
def raw(block: Block, tmp_path: Path) -> Path:
    """The block's 60 PNGs in their two class folders, ours to spoil."""
    return Path(shutil.copytree(block.path.parent / "raw", tmp_path / "raw"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mistake(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """mistake(words) -> the one line on stderr of a `genmodel` command that must fail as a user's mistake."""

    def run(*words: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([str(word) for word in words])
        assert caught.value.code == 2
        said = capsys.readouterr().err
        assert said.startswith("error: ") and said.count("\n") == 1 and said.endswith("\n"), said
        return said.removeprefix("error: ").strip()

    return run
