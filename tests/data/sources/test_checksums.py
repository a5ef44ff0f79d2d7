"""A known archive, by its name, must have its MD5; others are not read for it."""

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torchvision

from genmodel.data.block import Block
from genmodel.data.sources import checksums as known
from genmodel.data.sources.checksums import checking, known_md5
from genmodel.errors import SourceError

Pack = Callable[[str, dict[str, bytes]], str]


def pretend(monkeypatch: pytest.MonkeyPatch, path: Path, md5: str = "") -> str:
    """Let `path` be an archive that is known by its own MD5 or another."""
    md5 = md5 or hashlib.md5(path.read_bytes()).hexdigest()
    monkeypatch.setattr(known, "_KNOWN", ((path.name, path.stat().st_size, md5),))
    return md5


def test_a_name_with_an_addition_needs_the_size(tmp_path: Path) -> None:
    path = tmp_path / "train-labels-idx1-ubyte.gz"
    path.write_bytes(bytes(28_881))
    assert known_md5(path) == "d53e105ee54ea40749a09fcbcd1e9432"
    path.write_bytes(bytes(28_882))
    assert known_md5(path) == ""
    sparse = tmp_path / "ILSVRC2012_img_train (1).tar"
    with sparse.open("wb") as handle:
        handle.truncate(147_897_477_120)
    assert known_md5(sparse) == "1d675b47d978889d74fa0da5fadfb00e"
    assert known_md5(sparse.rename(tmp_path / "mine.tar")) == ""
    (tmp_path / "ILSVRC2012_img_train.sample.tar").write_bytes(b"x")
    assert known_md5(tmp_path / "ILSVRC2012_img_train.sample.tar") == ""


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("ILSVRC2012_img_train.tar", "147,897,477,120"),
        ("ILSVRC2012_img_val.tar", "6,744,924,160"),
        ("cifar-10-python.tar.gz", "170,498,071"),
        ("cifar-10-binary.tar.gz", "170,052,171"),
        ("cifar-100-python.tar.gz", "169,001,437"),
        ("cifar-100-binary.tar.gz", "168,513,733"),
    ],
)
def test_the_very_name_is_for_the_whole_archive(tmp_path: Path, name: str, size: str) -> None:
    """A part of it under the same name is told at once, with the fix."""
    path = tmp_path / name
    path.write_bytes(bytes(1000))
    with pytest.raises(SourceError, match=rf"{name} is not the whole .* 1,000 bytes, not {size}; .*or rename it"):
        checking([path]).__enter__()
    with path.open("wb") as handle:
        handle.truncate(int(size.replace(",", "")))
    assert known_md5(path)


def test_the_devkit_is_known_by_its_name_alone(tmp_path: Path) -> None:
    for size in (1000, 2_568_145):
        path = tmp_path / "ILSVRC2012_devkit_t12.tar.gz"
        path.write_bytes(bytes(size))
        with (
            pytest.raises(SourceError, match=r"not fa75699e90414af021442c21a62c3abf; fetch it again, or rename it"),
            checking([path]) as finish,
        ):
            finish()


def test_torchvision_has_the_same_checksums_of_cifar(tmp_path: Path) -> None:
    for data_set in (torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100):
        with (tmp_path / data_set.filename).open("wb") as handle:
            handle.truncate(next(size for name, size, _ in known._KNOWN if name == data_set.filename))
        assert known_md5(tmp_path / data_set.filename) == data_set.tgz_md5


def test_a_part_of_imagenet_under_its_name(
    make: Callable[..., Block], images: dict[str, bytes], packed: Pack, tmp_path: Path
) -> None:
    path = Path(packed("tar", images)).rename(tmp_path / "ILSVRC2012_img_train.tar")
    with pytest.raises(SourceError, match="is not the whole archive"):
        make(str(path), tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert len(make(str(path.rename(tmp_path / "some.tar")), tmp_path / "data")) == 42


def test_a_whole_one_passes(make: Callable[..., Block], images: dict[str, bytes], packed: Pack, tmp_path: Path) -> None:
    path = Path(packed("tar", images))
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch, path)
        assert len(make(str(path), tmp_path / "data")) == 42


def test_a_flipped_bit_in_an_image_is_found_before_there_is_a_block(
    make: Callable[..., Block],
    images: dict[str, bytes],
    packed: Pack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = Path(packed("tar", images))
    whole = pretend(monkeypatch, path)
    content = bytearray(path.read_bytes())
    content[content.find(b"\xff\xda") + 200] ^= 4  # in the scan of a JPEG: decoders take it
    path.write_bytes(content)
    with pytest.raises(SourceError) as caught:
        make(str(path), tmp_path / "data")
    assert whole in str(caught.value) and hashlib.md5(content).hexdigest() in str(caught.value)
    assert str(path) in str(caught.value) and not (tmp_path / "data").exists()
    monkeypatch.setattr(known, "_KNOWN", ())
    assert len(make(str(path), tmp_path / "data")) == 42  # nothing else notices


def test_unknown_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(known, "_md5", lambda *_: pytest.fail("read"))
    (tmp_path / "a.tar").write_bytes(b"x")
    with checking([tmp_path / "a.tar"]) as finish:
        finish()


def test_an_error_elsewhere_stops_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.tar"
    with path.open("wb") as handle:
        handle.truncate(1 << 40)  # a tebibyte of nothing
    monkeypatch.setattr(known, "_KNOWN", (("a.tar", 1 << 40, "0"),))
    before = threading.active_count()
    with pytest.raises(KeyError), checking([path]):
        raise KeyError
    assert threading.active_count() == before
