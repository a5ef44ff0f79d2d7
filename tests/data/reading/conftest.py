"""A block of several shards, with two sizes."""

import pytest

from genmodel.data.block import Block
from genmodel.data.making.make import prepare


@pytest.fixture(scope="module")
def block(images: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Block:
    folder = tmp_path_factory.mktemp("loader")
    for name, content in images.items():
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "raw" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genmodel.data.making.make.SHARD_BYTES", 8 * 16 * 16 * 3)
        return prepare(str(folder / "raw"), folder / "data", [8, 16], 1, val_fraction=0.2)
