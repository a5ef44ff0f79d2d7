"""Opening, gathering, and finding every kind of damage."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genmodel.data.block import Block, shard_header, shard_name
from genmodel.data.making.make import prepare
from genmodel.data.making.update import update
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import BlockError
from genmodel.sizes import Size


@pytest.fixture(scope="module")
def made(images: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A block of 42 images in 6 shards, with one reject."""
    folder = tmp_path_factory.mktemp("block")
    for name, content in (images | {"bee/bad.jpg": b"?"}).items():
        (folder / "raw" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "raw" / name).write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genmodel.data.making.make.SHARD_BYTES", 8 * 16 * 16 * 3)
        prepare(str(folder / "raw"), folder / "data", [8, 16], 1, val_fraction=0.3, max_reject_share=0.1)
    return folder / "data"


@pytest.fixture
def block(made: Path, tmp_path: Path) -> Block:
    """A copy of it to do harm to."""
    shutil.copytree(made, tmp_path / "data")
    return Block.open(tmp_path / "data")


def test_facts(block: Block) -> None:
    assert (block.sizes, block.channels) == ([Size(8, 8), Size(16, 16)], 3)
    assert (block.classes, len(block), block.resize) == (["ape", "bee", "cat"], 42, "adm-1")
    assert block.labels.dtype == np.int32 and np.bincount(block.labels).tolist() == [14, 14, 14]
    assert [len(shard) for shard in block.shards(16)] == [8, 8, 8, 7, 8, 3]


def test_splits_part_the_images(block: Block) -> None:
    train, val = block.rows("train"), block.rows("val")
    assert train.dtype == np.int64 and 5 < len(val) < 20
    np.testing.assert_array_equal(np.sort(np.concatenate([train, val])), block.rows("all"))


def test_a_split_without_images_is_told(block: Block) -> None:
    block.splits = np.zeros_like(block.splits)
    with pytest.raises(BlockError, match="no images in split val"):
        block.rows("val")


def test_gather_is_indexing(block: Block) -> None:
    everything = np.concatenate(block.shards(16))
    indexes = np.random.default_rng(0).integers(0, 42, 100)
    np.testing.assert_array_equal(block.gather(16, indexes), everything[indexes])
    assert block.gather(16, np.array([], np.int64)).shape == (0, 16, 16, 3)


def test_the_map_cannot_be_written(block: Block) -> None:
    with pytest.raises(ValueError, match="read-only"):
        block.shards(16)[0][0] = 0


def test_a_size_that_it_has_not(block: Block) -> None:
    with pytest.raises(BlockError, match="has 8, 16 px, not 64: prepare it with --sizes 8,16,64"):
        block.shards(64)


def test_missing_block(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match=r"there is no block at .*genmodel prepare"):
        Block.open(tmp_path / "none")


@pytest.mark.parametrize("content", ["[" * 200_000, "", "[]", "{}", "no json"])
def test_damaged_index(block: Block, content: str) -> None:
    (block.path / "block.json").write_text(content)
    with pytest.raises(BlockError, match=r"block\.json is damaged"):
        Block.open(block.path)


def test_other_version(block: Block) -> None:
    (block.path / "block.json").write_text(json.dumps(block.facts | {"format": 9}))
    with pytest.raises(BlockError, match="format 9, not 2 or 3: prepare it again"):
        Block.open(block.path)


def test_a_changed_index_is_noticed(block: Block) -> None:
    path = block.path / "block.json"
    path.write_text(path.read_text().replace('"ape"', '"ant"'))
    with pytest.raises(BlockError, match="checksum"):
        Block.open(block.path)


def test_a_shard_of_other_length_or_none_is_noticed_when_opened(block: Block) -> None:
    path = block.path / shard_name(Size.of(16), 2)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BlockError, match=r"shard-00002\.npy is damaged, its length"):
        block.shards(16)
    path.unlink()
    with pytest.raises(BlockError, match=r"shard-00002\.npy is missing"):
        block.shards(16)


def test_a_whole_block_has_no_problems(block: Block) -> None:
    assert block.verify() == []


def damaged_files(path: Path) -> set[str]:
    """The files that opening the block and verifying it name."""
    try:
        return {problem.partition(": ")[0] for problem in Block.open(path).verify(watch=False)}
    except BlockError as error:  # of block.json and the ledgers, which opening reads
        return {found.removeprefix(f"{path}/") for found in str(error).split() if found.startswith(f"{path}/")}


@pytest.mark.slow
def test_verify_names_every_damaged_file(
    block: Block, encode: Callable[..., bytes], picture: Callable[..., Image.Image], tmp_path: Path
) -> None:
    """700 flips, cuts, additions, removals and swaps, one at a time, in any file of a block with an update."""
    (tmp_path / "new/dog").mkdir(parents=True)
    (tmp_path / "new/dog/1.png").write_bytes(encode(picture(77, 30, 30)))
    block = update(str(tmp_path / "new"), block.path, 1, layout=Layout(allow_new_classes=True)).block
    assert len(block.facts["generations"]) == 2
    rng = random.Random(0)
    names = [*sorted(block.facts["files"]), "block.json"]
    contents = {name: (block.path / name).read_bytes() for name in names}
    for _ in range(700):
        name, content = rng.choice(list(contents.items()))
        path, place = block.path / name, rng.randrange(len(content))
        kind = rng.choice(["flip", "flip", "cut", "swap", "swap", "more", "gone"])
        expected = {name}
        if kind == "flip":
            path.write_bytes(content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :])
        elif kind == "cut":
            path.write_bytes(content[:place])
        elif kind == "more":
            path.write_bytes(content + b"x")
        elif kind == "gone" and name != "block.json":
            path.unlink()
        else:
            other = rng.choice([other for other in names if contents[other] != content])
            path.write_bytes(contents[other])
            (block.path / other).write_bytes(content)
            expected.add(other)
        found = damaged_files(block.path)
        assert found and found <= expected, f"{kind} of {expected} is told as damage of {found}"
        assert found == expected or "block.json" in expected or any("ledger" in each for each in expected), kind
        for each in expected:
            (block.path / each).write_bytes(contents[each])
    assert damaged_files(block.path) == set()


def test_verify_names_extra_files(block: Block) -> None:
    (block.path / "16/shard-00099.npy").write_bytes(b"")
    (block.path / "notes.txt").write_bytes(b"")
    problems = block.verify(watch=False)
    assert [problem.partition(": ")[0] for problem in problems] == ["16/shard-00099.npy", "notes.txt"]


def test_verify_checks_the_ledger_against_the_shards(made: Path, tmp_path: Path) -> None:
    """A block whose digests are right but whose ledger is another's: as if written by a faulty program."""
    from genmodel.data import parquet
    from genmodel.data.block import write_index
    from genmodel.files.durable import digest_file

    def altered(column: str, change: int) -> list[str]:
        shutil.rmtree(tmp_path / "data", ignore_errors=True)
        shutil.copytree(made, tmp_path / "data")
        facts = Block.open(tmp_path / "data").facts
        path = tmp_path / "data/ledger-000.parquet"
        ledger = parquet.read(path)
        ledger[column] = ledger[column].copy()
        ledger[column][3] += change
        parquet.write(path, ledger)
        facts["files"]["ledger-000.parquet"]["sha256"] = digest_file(path)
        write_index(tmp_path / "data", facts)
        return Block.open(tmp_path / "data").verify(watch=False)

    assert altered("row", 0) == []
    assert any("shards and rows" in problem for problem in altered("row", 1))
    assert any("shards and rows" in problem for problem in altered("shard", -1))
    assert any("labels and classes" in problem for problem in altered("label", 1))
    assert any("labels and classes" in problem for problem in altered("label", 77))
    assert any("neither train nor val" in problem for problem in altered("split", 7))


@pytest.mark.parametrize(("rows", "size"), [(0, 8), (1, 16), (131072, 16), (8192, 64), (512, 256), (2, 4096)])
def test_headers_are_numpys(rows: int, size: int, tmp_path: Path) -> None:
    header = shard_header(rows, Size.of(size), 3)
    assert len(header) == 128
    with (tmp_path / "a.npy").open("wb") as handle:
        handle.write(header)
        handle.truncate(128 + rows * size * size * 3)  # sparse
    array = np.load(tmp_path / "a.npy", mmap_mode="r" if rows else None)
    assert array.shape == (rows, size, size, 3) and array.dtype == np.uint8 and array.flags.c_contiguous


@pytest.mark.slow
def test_a_flipped_bit_in_a_ledger_is_noticed_when_the_block_is_opened(block: Block) -> None:
    """A val image would be trained on, under an equal fingerprint."""
    path = block.path / "ledger-000.parquet"
    content = path.read_bytes()
    for place in range(0, len(content), 7):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(
            BlockError, match=r"ledger-000\.parquet is damaged, its sha256 does not match block\.json: pull or"
        ):
            Block.open(block.path)
