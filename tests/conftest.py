"""What many tests need: a small block of bright and dark squares in two classes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

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


def shared_data(name: str) -> Path:
    """A file of the real images beside the project; the test is skipped where they are absent."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of ../shared/data")
    return path
