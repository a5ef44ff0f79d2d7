"""The block's bytes depend on the images alone: not on workers, packing, order, or how often it was killed."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from genmodel.data import parquet
from genmodel.data.block import Block
from genmodel.data.imaging.decode import decode
from genmodel.data.imaging.resize import resize
from genmodel.data.making import make as prepare
from genmodel.data.making import shards
from genmodel.data.making.recipe import Recipe
from genmodel.errors import BlockError, ConfigError, SourceError, StorageError
from genmodel.files import durable
from genmodel.sizes import Size

Make = Callable[..., Block]
Pack = Callable[[str, dict[str, bytes]], str]
Tree = Callable[[Path], dict[str, bytes]]
SIZES = [16, 8]


def test_rows_ledger_and_rejects(
    make: Make, files: dict[str, bytes], images: dict[str, bytes], packed: Pack, tmp_path: Path, small_shards: None
) -> None:
    block = make(packed("tar", files), tmp_path / "data")
    good = sorted(images)
    ledger = parquet.read(block.path / "ledger-000.parquet")
    assert ledger["name"] == good
    assert ledger["sha256"] == [durable.digest_bytes(files[name]) for name in good]
    assert ledger["class"] == [name[:3] for name in good]
    assert ledger["label"].tolist() == [["ape", "bee", "cat"].index(name[:3]) for name in good]
    assert ledger["split"].tolist() == [int(int(sha[:8], 16) / 2**32 < 0.1) for sha in ledger["sha256"]]
    assert ledger["format"] == [Path(name).suffix[1:].upper() for name in good]
    for size in SIZES:
        assert len(block.shards(size)) == 6  # 45 members by 8
        expected = np.stack([resize(decode(files[name])[0], size) for name in good])
        np.testing.assert_array_equal(np.concatenate(block.shards(size)), expected)
        np.testing.assert_array_equal(np.load(block.path / f"{size}/shard-00000.npy"), block.shards(size)[0])
    rejects = parquet.read(block.path / "rejects-000.parquet")
    assert rejects["name"] == sorted(files.keys() - images.keys())
    assert rejects["reason"][0] == "an empty file" and rejects["reason"][1].startswith(
        "not in a format that can be read (JPEG"
    )
    assert block.facts["rejected"] == 3 and block.facts["images"] == len(block) == 42
    assert block.verify(watch=False) == []
    assert not list(tmp_path.glob("*.partial"))


def test_others_read_the_ledgers(make: Make, files: dict[str, bytes], packed: Pack, tmp_path: Path) -> None:
    block = make(packed("tar", files), tmp_path / "data")
    table = pq.read_table(block.path / "ledger-000.parquet", use_threads=False).to_pydict()
    ours = parquet.read(block.path / "ledger-000.parquet")
    assert table == {name: list(column) for name, column in ours.items()}
    assert pq.read_table(block.path / "rejects-000.parquet", use_threads=False).num_rows == 3


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(
    make: Make, files: dict[str, bytes], packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    source = packed("tar", files)
    one, two, three = (tree(make(source, tmp_path / str(n), workers=n).path) for n in (1, 2, 3))
    assert one == two == three
    assert len(one) == 2 * 6 + 3


def test_the_cut_into_slices_changes_nothing(
    make: Make, files: dict[str, bytes], packed: Pack, tree: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = packed("tar", files)
    expected = tree(make(source, tmp_path / "a").path)
    monkeypatch.setattr("genmodel.data.making.pool.SLICE", 5)
    assert tree(make(source, tmp_path / "b", workers=3).path) == expected


@pytest.mark.slow
def test_any_packing_gives_the_same_bytes(
    make: Make, kind: str, files: dict[str, bytes], packed: Pack, tree: Tree, tmp_path: Path, small_shards: None
) -> None:
    expected = tree(make(packed("tar", files), tmp_path / "a").path)
    found = tree(make(packed(kind, files), tmp_path / "b").path)
    assert found == expected


def test_two_at_once_are_refused(
    make: Make, files: dict[str, bytes], packed: Pack, tmp_path: Path, monkeypatch: Any
) -> None:
    ticks = iter(range(0, 1000, 3))
    monkeypatch.setattr("genmodel.data.making.make.time.monotonic", lambda: next(ticks))
    with prepare._locked(tmp_path / "data.partial"), pytest.raises(BlockError, match="another process is preparing"):
        make(packed("tar", files), tmp_path / "data")


def test_too_many_rejects(
    make: Make, files: dict[str, bytes], packed: Pack, tmp_path: Path, small_shards: None
) -> None:
    source = packed("tar", files)
    with pytest.raises(SourceError) as caught:
        make(source, tmp_path / "data", max_reject_share=0.01)
    assert "images cannot be used" in str(caught.value) and "--allow-rejects" in str(caught.value)
    assert not (tmp_path / "data").exists()
    assert len(make(source, tmp_path / "data", max_reject_share=0.07)) == 42  # 3 of 45


def test_nothing_but_rejects_is_an_error_whatever_is_allowed(make: Make, packed: Pack, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="2 of 2 images cannot be used"):
        make(packed("tar", {"a/1.jpg": b"?", "b/2.jpg": b""}), tmp_path / "data", max_reject_share=1)


def test_a_whole_shard_of_rejects(
    make: Make, images: dict[str, bytes], packed: Pack, tmp_path: Path, small_shards: None
) -> None:
    block = make(packed("tar", {f"aaa/{i}.jpg": b"x" for i in range(10)} | images), tmp_path / "data")
    assert [len(shard) for shard in block.shards(16)][:3] == [0, 6, 8]
    assert block.classes == ["ape", "bee", "cat"]  # a class without an image is none
    assert block.verify(watch=False) == []


def test_bad_settings_and_targets(make: Make, images: dict[str, bytes], packed: Pack, tmp_path: Path) -> None:
    source = packed("tar", images)
    bad: list[dict[str, Any]] = [{"sizes": []}, {"sizes": [4]}, {"val_fraction": 1.5}, {"max_reject_share": -1}]
    for options in bad:
        with pytest.raises(ConfigError, match="--"):
            make(source, tmp_path / "data", **options)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    with pytest.raises(BlockError, match="is not a block"):
        make(source, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.txt").exists()
    with pytest.raises(SourceError, match=r"holds no images \(1 other"):
        make(packed("tar", {"a/readme.txt": b""}), tmp_path / "data")


def test_no_space_left(
    make: Make, images: dict[str, bytes], packed: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left"):
        make(packed("tar", images), tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_a_killed_worker_is_told(
    make: Make, images: dict[str, bytes], packed: Pack, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr(shards, "decode", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(StorageError, match=r"was killed: .*--workers"):
        make(packed("tar", images), tmp_path / "data")


def test_shard_rows() -> None:
    squares = [[Size(side, side)] for side in (16, 64, 128, 256, 4096)]
    colour, grey = Recipe(channels=3), Recipe(channels=1)
    assert [prepare.shard_rows(sizes, colour) for sizes in squares] == [131072, 8192, 2048, 512, 2]
    assert prepare.shard_rows([Size(64, 64), Size(32, 256)], colour) == 4096
    assert prepare.shard_rows([Size(64, 64)], grey) == 32768


def test_the_index_holds_no_paths_and_no_times(
    make: Make, images: dict[str, bytes], packed: Pack, tmp_path: Path
) -> None:
    block = make(packed("tar", images), tmp_path / "data")
    text = (block.path / "block.json").read_text()
    assert str(tmp_path) not in text
    keys = "format sizes channels recipe classes images rejected val_fraction generations files checksum"
    assert sorted(json.loads(text)) == sorted(keys.split(" "))


def test_workers_need_no_torch() -> None:
    code = "import sys, genmodel.data.making.make; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_digits(make: Make, tmp_path: Path) -> None:
    block = make("digits", tmp_path / "data", sizes=[16], max_reject_share=0)
    assert len(block) == 1797 and block.classes == list("0123456789")
    assert block.channels == 1 and block.gather(16, np.arange(2)).shape == (2, 16, 16, 1)
    colour = make("digits", tmp_path / "colour", sizes=[16], max_reject_share=0, recipe=Recipe(channels=3))
    assert durable.digest_file(colour.path / "16/shard-00000.npy")[:12] == "b886863170b6"
    np.testing.assert_array_equal(colour.shards(16)[0][..., :1], block.shards(16)[0])


def test_real_images(make: Make, shared: Callable[[str], str], tmp_path: Path) -> None:
    """A slice of ImageNet through folders: every 20th image, resized by the whole line and by one call."""
    from genmodel.data.sources.meaning.arrange import listing_of
    from genmodel.data.sources.opening import open_source

    source = open_source(shared("ILSVRC2012_img_train.sample.tar"))
    members = listing_of(source).members[::20]
    for member in members:
        path = tmp_path / "raw" / member.name
        path.parent.mkdir(parents=True)
        path.write_bytes(source.read(member))
    block = make(str(tmp_path / "raw"), tmp_path / "data", sizes=[64, 256], max_reject_share=0)
    assert len(block) == 40 and block.facts["rejected"] == 0
    image = Image.open(tmp_path / "raw" / members[7].name).convert("RGB")
    np.testing.assert_array_equal(block.shards(256)[0][7], resize(image, 256))
    np.testing.assert_array_equal(block.shards(64)[0][7], resize(image, 64))
