"""ImageNet's validation tar: classes by ILSVRC2012_ID, which numbers the synsets in an order of its own."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from genmodel.data.sources.datasets.ilsvrc import DEVKIT
from genmodel.data.sources.datasets.synsets import SYNSETS
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError
from genmodel.files.durable import digest_bytes

TarBytes = Callable[..., bytes]
TRUTH = [490, 361, 171, 822, 297, 361]  # the first five are the devkit's own


def devkit(tar_bytes: TarBytes, truth: Sequence[object] = TRUTH) -> bytes:
    lines = "".join(f"{number}\n" for number in truth).encode()
    top = "ILSVRC2012_devkit_t12"
    files = [
        (f"{top}/readme.txt", b"hello"),
        (f"{top}/data/meta.mat", b"not read"),
        (f"{top}/data/ILSVRC2012_validation_ground_truth.txt", lines),
    ]
    return tar_bytes(files, "w:gz")


def images(count: int = 6) -> list[tuple[str, bytes]]:
    return [(f"ILSVRC2012_val_{i + 1:08d}.JPEG", f"image {i}".encode()) for i in range(count)]


def test_the_table_is_that_of_the_devkit() -> None:
    """With the ground truth of 16 images of the devkit it gives the synsets of valprep.sh, known for all 50,000."""
    assert len(set(SYNSETS)) == len(SYNSETS) == 1000
    assert digest_bytes("\n".join(SYNSETS).encode())[:16] == "930a31901625f214"
    truth = [490, 361, 171, 822, 297, 482, 13, 704, 599, 164, 649, 10, 495, 128, 848, 186]
    first = "n01751748 n09193705 n02105855 n04263257 n03125729 n01735189 n02346627 n02776631 n03794056 n02328150"
    others = "n01917289 n02123394 n01630670 n02106166 n10148035 n02437616"
    assert " ".join(SYNSETS[number - 1] for number in truth) == f"{first} {others}"


def test_classes_of_the_train_tar_are_in_the_table(shared: Callable[[str], str]) -> None:
    found = listing_of(open_source(shared("ILSVRC2012_img_train.sample.tar"))).members
    assert found and {member.class_name for member in found} <= set(SYNSETS)


def test_labels_come_by_the_table(tar_bytes: TarBytes, tmp_path: Path) -> None:
    (tmp_path / DEVKIT).write_bytes(devkit(tar_bytes))
    shuffled = images()
    random.Random(1).shuffle(shuffled)
    listings = []
    for name, members in (("ILSVRC2012_img_val.tar", images()), ("shuffled.tar", shuffled)):
        (tmp_path / name).write_bytes(tar_bytes(members))
        source = open_source(str(tmp_path / name))
        found = listing_of(source).members
        listings.append({member.name: source.read(member) for member in found})
        classes = [member.class_name for member in found]
        assert classes == ["n01751748", "n02105855", "n03125729", "n04263257", "n09193705", "n09193705"]
    assert listings[0] == listings[1]
    assert listings[0]["n01751748/ILSVRC2012_val_00000001.JPEG"] == b"image 0"
    assert listings[0]["n09193705/ILSVRC2012_val_00000002.JPEG"] == b"image 1"
    assert listings[0]["n04263257/ILSVRC2012_val_00000004.JPEG"] == b"image 3"


def test_the_devkit_may_lie_elsewhere_and_may_not_be_absent(tar_bytes: TarBytes, tmp_path: Path) -> None:
    path = tmp_path / "val.tar"
    path.write_bytes(tar_bytes(images()))
    with pytest.raises(SourceError, match=r"no labels: put ILSVRC2012_devkit_t12\.tar\.gz beside it"):
        open_source(str(path))
    (tmp_path / "kit.tgz").write_bytes(devkit(tar_bytes))
    assert len(listing_of(open_source(str(path), tmp_path / "kit.tgz")).members) == 6


def test_a_bad_devkit_is_told(tar_bytes: TarBytes, tmp_path: Path) -> None:
    (tmp_path / "val.tar").write_bytes(tar_bytes(images()))
    bad = [devkit(tar_bytes, [*TRUTH[:5], *wrong]) for wrong in ([], [0], [-1], [1001], ["n01751748"], ["\ufeff1"])]
    bad.append(tar_bytes([("data/other.txt", b"")], "w:gz"))
    for content in bad:
        (tmp_path / DEVKIT).write_bytes(content)
        with pytest.raises(SourceError, match=rf"{DEVKIT}.*fetch it again"):
            listing_of(open_source(str(tmp_path / "val.tar")))


def test_hostile_members_are_refused(tar_bytes: TarBytes, tmp_path: Path) -> None:
    """Behind the first members, which tell what the tar is."""
    (tmp_path / DEVKIT).write_bytes(devkit(tar_bytes, TRUTH * 5))
    extra = [("../ILSVRC2012_val_00000001.JPEG", b"x"), ("stray.JPEG", b"x")]
    (tmp_path / "val.tar").write_bytes(tar_bytes(images(30) + extra))
    refused = {member.name: member.refused for member in listing_of(open_source(str(tmp_path / "val.tar"))).members}
    assert refused["../ILSVRC2012_val_00000001.JPEG"] == "a path with .."
    assert refused["stray.JPEG"] == "has no label in the devkit"
    assert sum(1 for reason in refused.values() if not reason) == 30
