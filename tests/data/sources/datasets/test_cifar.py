"""CIFAR's batches, as their authors write them; and pickles that would do something, which nobody runs."""

import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmodel.data.block import Block
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.opening import Source, open_source
from genmodel.errors import SourceError

RNG = np.random.default_rng(0)
DATA = {name: RNG.integers(0, 256, (5, 3072), np.uint8) for name in ("data_batch_1", "data_batch_2", "test_batch")}
LABELS = {name: [int(label) for label in RNG.integers(0, 3, 5)] for name in DATA}
NAMES = ["airplane", "automobile", "bird"]


def python2(data: np.ndarray, labels: list[int]) -> bytes:
    """A batch as cPickle of Python 2 writes it with protocol 2, which CIFAR's authors had; texts are bytes."""

    def text(value: bytes) -> bytes:
        return (b"U" + bytes([len(value)]) if len(value) < 256 else b"T" + len(value).to_bytes(4, "little")) + value

    rows, columns = (b"M" + length.to_bytes(2, "little") for length in data.shape)
    array = b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\0\x85U\1b\x87Rq\x04"
    kind = b"cnumpy\ndtype\nq\x05U\2u1K\0K\1\x87Rq\x06(K\3U\1|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb"
    array += b"(K\1" + rows + columns + b"\x86" + kind + b"\x89" + text(data.tobytes()) + b"tb"
    numbers = b"]q\x07(" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}q\x01(" + text(b"data") + array + text(b"labels") + numbers + b"u."


def binary(data: np.ndarray, labels: list[int], coarse: bool = False) -> bytes:
    return b"".join(b"\7" * coarse + bytes([label]) + row.tobytes() for label, row in zip(labels, data, strict=True))


WRITE: dict[str, Callable[[np.ndarray, list[int]], bytes]] = {
    "python 2": python2,
    "protocol 3": lambda data, labels: pickle.dumps({b"data": data, b"labels": labels}, 3),
    "protocol 5": lambda data, labels: pickle.dumps({"data": data, "labels": np.array(labels)}, 5),
    "binary": binary,
}


def files_of(way: str) -> dict[str, bytes]:
    ending = ".bin" if way == "binary" else ""
    files = {f"c/{name}{ending}": WRITE[way](DATA[name], LABELS[name]) for name in DATA}
    if way == "binary":
        return files | {"c/batches.meta.txt": "\n".join([*NAMES, "", ""]).encode(), "c/readme.html": b"<html>"}
    return files | {"c/batches.meta": pickle.dumps({"label_names": NAMES, "num_vis": 3072}, 2), "c/readme.html": b"x"}


def check(source: Source) -> None:
    members = listing_of(source, Layout(split="train")).members
    assert len(members) == 10
    again = pickle.loads(pickle.dumps(source))
    for member in members:
        batch, number = member.name.removesuffix(".ppm").split("/")[-2:]
        pixels = DATA[batch][int(number)].reshape(3, 32, 32).transpose(1, 2, 0)
        assert source.read(member) == again.read(member) == b"P6\n32 32\n255\n" + pixels.tobytes()
        assert member.class_name == NAMES[LABELS[batch][int(number)]]


def test_python_2_wrote_a_pickle() -> None:
    """The bytes above are what they claim to be: unpickled here, where they are known."""
    found = pickle.loads(python2(DATA["test_batch"], LABELS["test_batch"]), encoding="latin1")
    assert np.array_equal(found["data"], DATA["test_batch"]) and found["labels"] == LABELS["test_batch"]


@pytest.mark.parametrize("way", list(WRITE))
def test_every_way_of_writing_gives_the_images(way: str, tar_bytes: Callable[..., bytes], tmp_path: Path) -> None:
    """In their tar.gz, unpacked, and the folder above it."""
    files = files_of(way)
    (tmp_path / "c.tar.gz").write_bytes(tar_bytes(files.items(), "w:gz"))
    check(open_source(str(tmp_path / "c.tar.gz")))
    (tmp_path / "d/c").mkdir(parents=True)
    for name, content in files.items():
        (tmp_path / "d" / name).write_bytes(content)
    check(open_source(str(tmp_path / "d/c")))
    check(open_source(str(tmp_path / "d")))


def test_the_test_batch_is_a_split(tar_bytes: Callable[..., bytes], tmp_path: Path) -> None:
    (tmp_path / "c.tar.gz").write_bytes(tar_bytes(files_of("python 2").items(), "w:gz"))
    listing = listing_of(open_source(str(tmp_path / "c.tar.gz")))
    assert len(listing.members) == 10 and listing.ignored["split test"].files == 5
    assert len(listing_of(open_source(str(tmp_path / "c.tar.gz")), Layout(split="test")).members) == 5


def test_one_batch_and_cifar_100(tmp_path: Path) -> None:
    data = DATA["data_batch_1"]
    (tmp_path / "data_batch_1").write_bytes(python2(data, LABELS["data_batch_1"]))
    members = listing_of(open_source(str(tmp_path / "data_batch_1"))).members
    assert [member.class_name for member in members] == sorted(map(str, LABELS["data_batch_1"]))
    (tmp_path / "hundred").mkdir()
    told = {"data": data, "fine_labels": [99, 1, 2, 3, 4], "coarse_labels": [0] * 5, "filenames": ["a"] * 5}
    (tmp_path / "hundred/train").write_bytes(pickle.dumps(told, 4))
    assert {m.class_name for m in listing_of(open_source(str(tmp_path / "hundred"))).members} == set("1234") | {"99"}
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/train.bin").write_bytes(binary(data, [99, 1, 2, 3, 4], coarse=True))
    source = open_source(str(tmp_path / "bin"))
    members = listing_of(source).members
    assert {member.class_name for member in members} == set("1234") | {"99"}
    pixels = data[0].reshape(3, 32, 32).transpose(1, 2, 0).tobytes()
    assert source.read(next(m for m in members if m.class_name == "99")).endswith(pixels)


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_that_would_act_does_not(protocol: int, tmp_path: Path) -> None:
    path, made = tmp_path / "data_batch_1", tmp_path / "made"
    told = {"evil": Evil(made), "data": DATA["data_batch_1"], "labels": LABELS["data_batch_1"]}
    path.write_bytes(pickle.dumps(told, protocol))
    with pytest.raises(SourceError, match=r"is a pickle that is not read: it would call (posix|nt)\.mkdir"):
        listing_of(open_source(str(path)))
    assert not made.exists()
    pickle.loads(path.read_bytes())
    assert made.exists(), "or else the test would prove nothing"


def test_other_opcodes_and_calls_of_numpy_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    for content in (
        b"\x80\x02}q\1(U\4datacnumpy\nload\nU\1x\x85Ru.",
        b"\x80\x02}q\1(U\4datacnumpy.core.multiarray\nfromfile\nU\1x\x85Ru.",
        b"\x80\x02}q\1(ios\nmkdir\nu.",  # INST
        b"\x80\x02}q\1(U\1a(cos\nmkdir\nU\1x\x81u.",  # NEWOBJ
        b"\x80\x02}q\1(U\1aPx\nu.",  # a persistent id
        b"\x80\x02}q\1(U\1a\x82\1u.",  # the registry of copyreg
    ):
        path.write_bytes(content + bytes(600))
        with pytest.raises(SourceError, match="is a pickle that is not read: it"):
            listing_of(open_source(str(path)))


@pytest.mark.parametrize("way", list(WRITE))
def test_cuts_and_flips_end_in_a_line_or_the_images(way: str, tmp_path: Path) -> None:
    name = "data_batch_1.bin" if way == "binary" else "data_batch_1"
    whole = WRITE[way](DATA["data_batch_1"], LABELS["data_batch_1"])
    rng, path, told = random.Random(0), tmp_path / name, list[str]()
    for _ in range(40):
        path.write_bytes(whole[: rng.randrange(1, len(whole))])
        with pytest.raises(SourceError) as caught:
            listing_of(open_source(str(tmp_path / name)))
        told.append(str(caught.value))
    for _ in range(150):
        flipped = bytearray(whole)
        place = rng.randrange(300) if rng.random() < 0.7 else rng.randrange(len(whole))
        flipped[place if place < len(whole) else 0] ^= 1 << rng.randrange(8)
        path.write_bytes(flipped)
        try:
            source = open_source(str(path))
            for member in listing_of(source).members:
                assert member.refused or source.read(member)
        except SourceError as error:
            told.append(str(error))
    assert told and "\n" not in "".join(told)


def test_a_block_of_it(tar_bytes: Callable[..., bytes], make: Callable[..., Block], tmp_path: Path) -> None:
    (tmp_path / "c.tar.gz").write_bytes(tar_bytes(files_of("python 2").items(), "w:gz"))
    one = make(str(tmp_path / "c.tar.gz"), tmp_path / "one", sizes=[32], workers=1, max_reject_share=0)
    two = make(str(tmp_path / "c.tar.gz"), tmp_path / "two", sizes=[32], workers=3, max_reject_share=0)
    assert len(one) == 10 and one.digest == two.digest and one.classes == sorted(NAMES)
