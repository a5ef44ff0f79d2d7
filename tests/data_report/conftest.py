"""A block of two generations, whose second one has something of everything."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.data.making.update import update
from genmodel.data.sources.meaning.layout import Layout


def _draw(path: Path, seed: int, bright: int, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(seed).integers(bright, bright + 80, (20, 24, 3)).astype(np.uint8)
    Image.fromarray(levels).convert(mode).save(path)


@pytest.fixture(scope="session")
def grown(tmp_path_factory: pytest.TempPathFactory) -> Block:
    """40 cats and 20 dogs; then 20 brighter cats, 4 of class `<i>`, an old cat and a new one again, 2 broken files."""
    place = tmp_path_factory.mktemp("grown")
    first, more = place / "first", place / "more"
    for number in range(60):
        _draw(first / ("cat" if number < 40 else "dog") / f"{number:02d}.png", number, 20)
    for number in range(20):
        _draw(more / "cat" / f"n{number:02d}.png", 100 + number, 90)
    for number in range(4):
        _draw(more / "<i>" / f"{number}.png", 200 + number, 90, "L")
    for source, copy in ((first / "cat/03.png", "old again.png"), (more / "cat/n05.png", "n05 again.png")):
        Image.open(source).save(more / "cat" / copy, compress_level=1)  # the same pixels from other bytes
    (more / "cat/[broken](http:__x).png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (more / "cat/empty.png").write_bytes(b"")
    prepare(str(first), place / "data", [8, 16], workers=1)
    update(str(more), place / "data", workers=1, max_reject_share=0.5, layout=Layout(allow_new_classes=True))
    return Block.open(place / "data")
