"""numpy's arrays of images, as people save them."""

import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmodel.data.block import Block
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (7, 6, 5), np.uint8)
COLOUR = RNG.integers(0, 256, (7, 6, 5, 3), np.uint8)
LABELS = RNG.integers(0, 3, 7)


def save(path: Path, packed: bool = False, **arrays: Any) -> Path:
    (np.savez_compressed if packed else np.savez)(path, **arrays)
    return path


def read(path: Path, layout: Layout = Layout()) -> dict[str, tuple[str, bytes]]:  # noqa: B008
    """Every image's class and bytes, by its name's last part."""
    source = open_source(str(path))
    again = pickle.loads(pickle.dumps(source))
    found = {}
    for member in listing_of(source, layout).members:
        assert not member.refused
        found[member.name.rpartition("/")[2][:6]] = member.class_name, source.read(member)
    members = listing_of(again, layout).members
    assert [again.read(member) for member in members] == [source.read(member) for member in members]
    return found


def expected(images: np.ndarray, labels: Any = LABELS) -> dict[str, tuple[str, bytes]]:
    head = b"P6\n5 6\n255\n" if images.ndim == 4 else b"P5\n5 6\n255\n"
    return {f"{i:06d}": (str(labels[i]), head + image.tobytes()) for i, image in enumerate(images)}


@pytest.mark.parametrize("packed", [False, True], ids=["stored", "deflated"])
@pytest.mark.parametrize("images", [GREY, COLOUR], ids=["grey", "colour"])
def test_images_and_labels(images: np.ndarray, packed: bool, tmp_path: Path) -> None:
    assert read(save(tmp_path / "a.npz", packed, images=images, labels=LABELS)) == expected(images)
    assert read(save(tmp_path / "b.npz", packed, x=images, y=LABELS[:, None])) == expected(images)
    assert read(save(tmp_path / "c.npz", packed, arr_0=images, arr_1=LABELS)) == expected(images)
    assert read(save(tmp_path / "d.npz", packed, samples=images)) == expected(images, ["images"] * 7)
    np.save(tmp_path / "e.npy", images)
    assert read(tmp_path / "e.npy") == expected(images, ["images"] * 7)
    planes = np.ascontiguousarray(np.moveaxis(images, -1, 1)) if images.ndim == 4 else images[:, None]
    assert read(save(tmp_path / "f.npz", packed, images=planes, labels=LABELS)) == expected(images)
    names = np.array(["cat", "dog", "bee"])[LABELS]
    assert read(save(tmp_path / "g.npz", packed, images=images, labels=names)) == expected(images, names)
    assert read(
        save(tmp_path / "h.npz", packed, images=images[..., None] if images.ndim == 3 else images, labels=LABELS)
    )


def test_keys_name_splits(tmp_path: Path) -> None:
    """mnist.npz of Keras, and MedMNIST's."""
    keras = save(tmp_path / "a.npz", x_train=GREY, y_train=LABELS, x_test=GREY[:2], y_test=LABELS[:2])
    assert read(keras) == expected(GREY)
    assert read(keras, Layout(split="test")) == expected(GREY[:2])
    med = {"train_images": GREY, "train_labels": LABELS, "val_images": GREY[:3], "val_labels": LABELS[:3]}
    listing = listing_of(open_source(str(save(tmp_path / "b.npz", **med))))
    assert [member.split for member in listing.members].count("val") == 3 and len(listing.members) == 10
    assert not any(member.refused for member in listing.members)


def test_imagenet_at_32_px_is_rows_of_planes(tmp_path: Path) -> None:
    rows = RNG.integers(0, 256, (4, 3072), np.uint8)
    source = open_source(str(save(tmp_path / "a.npz", data=rows, labels=[1, 2, 3, 1000], mean=np.zeros(3072))))
    listing = listing_of(source)
    assert {member.class_name for member in listing.members} == {"1", "2", "3", "1000"}
    pixels = rows[3].reshape(3, 32, 32).transpose(1, 2, 0).tobytes()
    assert source.read(next(m for m in listing.members if m.class_name == "1000")) == b"P6\n32 32\n255\n" + pixels
    assert sum(each.files for each in listing.ignored.values()) == 2  # the labels, and what is neither


@pytest.mark.parametrize(
    ("arrays", "cause"),
    [
        ({"images": GREY.astype(np.float32)}, r"no images.*float32\[7, 6, 5\].*save them as uint8"),
        ({"features": np.zeros((5, 9), np.uint8)}, "no images"),
        ({"images": np.array([1, "x", None], object)}, r"\(a pickle\), which is not read"),
        ({"images": np.asfortranarray(COLOUR)}, "no images"),
    ],
)
def test_what_is_no_image_is_told(arrays: dict[str, Any], cause: str, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=cause):
        listing_of(open_source(str(save(tmp_path / "a.npz", **arrays))))


def test_headers_that_lie_are_told(tmp_path: Path) -> None:
    def npy(shape: str, kind: str = "|u1") -> bytes:
        text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
        return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + bytes(100)

    for content, cause in (
        (npy("(1099511627776, 8, 8)"), "not those of"),
        (npy("(-4, 5, 5)"), "not those of"),
        (npy("(4, 5, 5)", "|O"), "a pickle"),
        (npy("(__import__('os').system('x'),)"), "is not a valid numpy array"),
        (npy("(" * 30 + ")" * 30), "not those of"),
        (b"\x93NUMPY\1\0\xff\xff{", "is not a valid numpy array"),
    ):
        (tmp_path / "a.npy").write_bytes(content)
        with pytest.raises(SourceError, match=cause) as caught:
            listing_of(open_source(str(tmp_path / "a.npy")))
        assert "\n" not in str(caught.value)
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy("(1048576, 1, 1)")[:-100] + bytes(1 << 20))
    with pytest.raises(SourceError, match="claims 1,048,576 items, too many"):
        listing_of(open_source(str(tmp_path / "b.npz")))


@pytest.mark.parametrize("packed", [False, True], ids=["stored", "deflated"])
def test_no_cut_or_flip_changes_an_image(packed: bool, tmp_path: Path) -> None:
    whole = save(tmp_path / "w.npz", packed, images=COLOUR, labels=LABELS).read_bytes()
    wanted, rng, path = expected(COLOUR), random.Random(0), tmp_path / "a.npz"
    told: list[str] = []
    for trial in range(200):
        content = bytearray(whole)
        if trial % 3:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(1, len(content)) :]
        path.write_bytes(content)
        try:
            source = open_source(str(path))
            for member in listing_of(source).members:
                assert source.read(member) == wanted[member.name.rpartition("/")[2][:6]][1]
        except SourceError as error:
            told.append(str(error))
    assert len(told) > 120 and "\n" not in "".join(told)


def test_a_block_of_it(make: Callable[..., Block], tmp_path: Path) -> None:
    path = save(tmp_path / "a.npz", True, images=COLOUR, labels=LABELS)
    one, two = (make(str(path), tmp_path / f"{n}", sizes=[8], workers=n, max_reject_share=0) for n in (1, 3))
    assert len(one) == 7 and one.digest == two.digest
