"""MNIST's files: images with the labels beside them."""

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from genmodel.data.block import Block
from genmodel.data.sources.checksums import known_md5
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

RNG = np.random.default_rng(0)
LEVELS = RNG.integers(0, 256, (37, 5, 7), np.uint8)
LABELS = RNG.integers(0, 10, 37, np.uint8)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def write(folder: Path, images: bytes, labels: bytes, ending: str = "") -> Path:
    pack = gzip.compress if ending else bytes
    (folder / f"t-labels-idx1-ubyte{ending}").write_bytes(pack(labels))
    path = folder / f"t-images-idx3-ubyte{ending}"
    path.write_bytes(pack(images))
    return path


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_images_and_labels(ending: str, make: Callable[..., Block], tmp_path: Path) -> None:
    path = write(tmp_path, idx(LEVELS), idx(LABELS), ending)
    source = open_source(str(path))
    members = listing_of(source).members
    assert len(members) == 37
    for member in members:
        i = int(member.name[-9:-4])
        assert member.class_name == str(LABELS[i])
        assert source.read(member) == b"P5\n7 5\n255\n" + LEVELS[i].tobytes()
    block = make(str(path), tmp_path / "data", sizes=[8])
    assert len(block) == 37 and block.ledger()["height"].tolist() == [5] * 37


def test_bad_files_are_told(tmp_path: Path) -> None:
    def problem(images: bytes, labels: bytes, ending: str = "") -> str:
        with pytest.raises(SourceError) as caught:
            listing_of(open_source(str(write(tmp_path, images, labels, ending))))
        for path in tmp_path.iterdir():
            path.unlink()
        return str(caught.value)

    images, labels = idx(LEVELS), idx(LABELS)
    for ending in ("", ".gz"):
        assert "cut off" in problem(images[:-1], labels, ending)
        assert "cut off or has more" in problem(images + b"x", labels, ending)
        assert "cut off" in problem(images, labels[:-1], ending)
        assert "'s 37 images: fetch it again" in problem(images, idx(LABELS[:-1]), ending)
    assert "holds labels, not images" in problem(labels, labels)
    huge = b"\xff" * 4
    assert "claims 4,294,967,295 images" in problem(images[:4] + huge + images[8:], labels[:4] + huge + labels[8:])
    assert "4294967295 x 4294967295" in problem(images[:4] + huge * 3, labels)
    (tmp_path / "t-images-idx3-ubyte").write_bytes(images)
    with pytest.raises(SourceError, match=r"put t-labels-idx1-ubyte or t-labels-idx1-ubyte\.gz there"):
        open_source(str(tmp_path / "t-images-idx3-ubyte"))


@pytest.mark.slow
def test_a_gzip_of_more_images_than_its_size_accounts_for_is_told(tmp_path: Path) -> None:
    """A hundred million images of a pixel each are 100 KB packed, and would be 40 GB of members."""
    count = 1 << 19
    images, labels = idx(np.zeros((count, 1, 1), np.uint8)), idx(np.zeros(count, np.uint8))
    source = open_source(str(write(tmp_path, images, labels, ".gz")))
    with pytest.raises(SourceError, match=f"claims {count:,} images, too many for its size"):
        listing_of(source)
    many = RNG.integers(0, 256, (3 << 17, 4, 4), np.uint8)
    members = listing_of(open_source(str(write(tmp_path, idx(many), idx(np.zeros(len(many), np.uint8)))))).members
    assert len(members) == len(many), "where each has its bytes"


@pytest.mark.slow
def test_mnist(shared: Callable[[str], str], make: Callable[..., Block], tmp_path: Path) -> None:
    for kind in ("images-idx3", "labels-idx1"):
        path = shared(f"mnist-10k-{kind}-ubyte.gz")
        assert known_md5(Path(path))
        shutil.copy(path, tmp_path)
    block = make(str(tmp_path / "mnist-10k-images-idx3-ubyte.gz"), tmp_path / "data", sizes=[16], max_reject_share=0)
    assert np.bincount(block.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert block.classes == list("0123456789")
