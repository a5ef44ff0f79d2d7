"""ImageNet's validation tar: classes through meta.mat, which numbers the synsets in an order of its own."""

import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from genmodel.data.ilsvrc import DEVKIT
from genmodel.data.sources import open_source
from genmodel.errors import SourceError

TarBytes = Callable[..., bytes]
SYNSETS = ["n03", "n01", "n04", "n02"]  # of IDs 1, 2, 3, 4: not sorted
TRUTH = [2, 1, 1, 4, 3, 2]


def devkit(tar_bytes: TarBytes, truth: Sequence[int] = TRUTH, meta: bytes | None = None) -> bytes:
    array = np.zeros((len(SYNSETS) + 1, 1), [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    for i, wnid in enumerate([*SYNSETS, "n99"]):  # the last is an inner node of the tree, as beyond 1,000
        array[i, 0] = (np.uint16(i + 1), wnid, "a word")
    handle = io.BytesIO()
    savemat(handle, {"synsets": array}, do_compression=True)
    lines = "".join(f"{number}\n" for number in truth).encode()
    top = "ILSVRC2012_devkit_t12"
    files = [
        (f"{top}/readme.txt", b"hello"),
        (f"{top}/data/meta.mat", handle.getvalue() if meta is None else meta),
        (f"{top}/data/ILSVRC2012_validation_ground_truth.txt", lines),
    ]
    return tar_bytes(files, "w:gz")


def images(count: int = 6) -> list[tuple[str, bytes]]:
    return [(f"ILSVRC2012_val_{i + 1:08d}.JPEG", f"image {i}".encode()) for i in range(count)]


def test_labels_come_through_meta_mat(tar_bytes: TarBytes, tmp_path: Path) -> None:
    (tmp_path / DEVKIT).write_bytes(devkit(tar_bytes))
    shuffled = images()
    random.Random(1).shuffle(shuffled)
    listings = []
    for name, members in (("ILSVRC2012_img_val.tar", images()), ("shuffled.tar", shuffled)):
        (tmp_path / name).write_bytes(tar_bytes(members))
        source = open_source(str(tmp_path / name))
        found = source.scan().members
        listings.append({member.name: source.read(member) for member in found})
        assert [member.class_name for member in found] == ["n01", "n01", "n02", "n03", "n03", "n04"]
    assert listings[0] == listings[1]
    assert listings[0]["n01/ILSVRC2012_val_00000001.JPEG"] == b"image 0"
    assert listings[0]["n03/ILSVRC2012_val_00000002.JPEG"] == b"image 1"
    assert listings[0]["n02/ILSVRC2012_val_00000004.JPEG"] == b"image 3"


def test_the_devkit_may_lie_elsewhere_and_may_not_be_absent(tar_bytes: TarBytes, tmp_path: Path) -> None:
    path = tmp_path / "val.tar"
    path.write_bytes(tar_bytes(images()))
    with pytest.raises(SourceError, match=r"no labels: put ILSVRC2012_devkit_t12\.tar\.gz beside it"):
        open_source(str(path))
    (tmp_path / "kit.tgz").write_bytes(devkit(tar_bytes))
    assert len(open_source(str(path), tmp_path / "kit.tgz").scan().members) == 6


def test_a_bad_devkit_is_told(tar_bytes: TarBytes, tmp_path: Path) -> None:
    (tmp_path / "val.tar").write_bytes(tar_bytes(images()))
    bad = [devkit(tar_bytes, TRUTH[:4]), devkit(tar_bytes, [*TRUTH[:5], 77]), devkit(tar_bytes, meta=b"no matlab")]
    bad.append(tar_bytes([("data/other.txt", b"")], "w:gz"))
    for content in bad:
        (tmp_path / DEVKIT).write_bytes(content)
        with pytest.raises(SourceError, match=rf"{DEVKIT}.*fetch it again"):
            open_source(str(tmp_path / "val.tar")).scan()


def test_hostile_members_are_refused(tar_bytes: TarBytes, tmp_path: Path) -> None:
    """Behind the first members, which tell what the tar is."""
    (tmp_path / DEVKIT).write_bytes(devkit(tar_bytes, TRUTH * 5))
    extra = [("../ILSVRC2012_val_00000001.JPEG", b"x"), ("stray.JPEG", b"x")]
    (tmp_path / "val.tar").write_bytes(tar_bytes(images(30) + extra))
    refused = {member.name: member.refused for member in open_source(str(tmp_path / "val.tar")).scan().members}
    assert refused["../ILSVRC2012_val_00000001.JPEG"] == "a name with .."
    assert refused["stray.JPEG"] == "lies beside the class folders, in none of them"
    assert sum(1 for reason in refused.values() if not reason) == 30
