"""ImageNet's validation tar: classes by ILSVRC2012_ID, which numbers the synsets in an order of its own."""

import io
import random
import zipfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest

from genmodel.data.sources.datasets.synsets import SYNSETS
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import DEVKIT, Listing
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


LABELS = [SYNSETS[number - 1] for number in TRUTH]
VAL = {name: label for (name, _), label in zip(images(), LABELS, strict=True)}


def put(folder: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def zipped(files: Mapping[str, bytes]) -> bytes:
    handle = io.BytesIO()
    with zipfile.ZipFile(handle, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return handle.getvalue()


def labels(listing: Listing) -> dict[str, str]:
    """The classes of the validation images by their files' names; they are the val split if the source has another."""
    found = [member for member in listing.members if "ILSVRC2012_val_" in member.name]
    assert not [member for member in found if member.refused]
    assert {member.split for member in found} == ({"val"} if listing.val else {""})
    return {member.name.rpartition("/")[2]: member.class_name for member in found}


@pytest.mark.parametrize("place", ["given", "in it", "beside it"])
@pytest.mark.parametrize(
    "form", ["a folder", "a folder in a folder", "a tar", "a tar.gz", "a zip", "a folder with a zip"]
)
def test_the_devkit_labels_the_images_wherever_they_are(
    form: str, place: str, tar_bytes: TarBytes, tmp_path: Path
) -> None:
    files, kit = dict(images()), tmp_path / "kit.tgz"
    packed = {"tar": tar_bytes(files.items()), "tar.gz": tar_bytes(files.items(), "w:gz"), "zip": zipped(files)}
    if ending := form.removeprefix("a ") if form.removeprefix("a ") in packed else "":
        source = put(tmp_path / "a", {f"val.{ending}": packed[ending]}) / f"val.{ending}"
    else:
        inner = {"a folder in a folder": {f"val/{name}": content for name, content in files.items()}}
        inner |= {"a folder": files, "a folder with a zip": {"val.zip": packed["zip"]}}
        source = put(tmp_path / "a", inner[form])
    if place != "given":
        kit = (source if place == "in it" and source.is_dir() else source.parent) / DEVKIT
    kit.write_bytes(devkit(tar_bytes))
    opened = open_source(str(source), kit if place == "given" else None)
    assert labels(listing_of(opened)) == VAL
    assert kit in opened.files, "so that its checksum is tested, and another kit is another source"


def test_both_tars_in_a_folder_are_two_splits(tar_bytes: TarBytes, tmp_path: Path) -> None:
    """As torchvision's ImageNet has them."""
    tars = {f"{name}.tar": tar_bytes([(f"{name}_{i}.JPEG", b"x") for i in range(3)]) for name in sorted(set(LABELS))}
    files = {"ILSVRC2012_img_train.tar": tar_bytes(tars.items()), "ILSVRC2012_img_val.tar": tar_bytes(images())}
    root = put(tmp_path / "root", files)
    without = listing_of(open_source(str(root)))
    assert len(without.members) == 15 and not without.val
    assert any(
        "6 validation images of ImageNet have no classes: put ILSVRC2012_devkit" in note for note in without.notes
    )
    put(root, {DEVKIT: devkit(tar_bytes)})
    listing = listing_of(open_source(str(root)))
    assert labels(listing) == VAL and listing.val == "ILSVRC2012_img_val"
    assert Counter(member.class_name for member in listing.members if member.split == "train") == dict.fromkeys(
        LABELS, 3
    )


def test_images_without_the_devkit_are_told_and_those_in_class_folders_stay_there(
    tar_bytes: TarBytes, tmp_path: Path
) -> None:
    flat = put(tmp_path / "flat/val", dict(images()))
    listing = listing_of(open_source(str(flat)))
    assert {member.class_name for member in listing.members} == {"images"}
    assert "put ILSVRC2012_devkit_t12.tar.gz beside the source, or say where it is with --devkit" in listing.notes[0]
    assert not listing_of(open_source(str(flat)), Layout(classes="none")).notes
    own = put(tmp_path / "own", {f"{'cat' if i % 2 else 'dog'}/{name}": b"x" for i, (name, _) in enumerate(images())})
    put(tmp_path / "own", {DEVKIT: devkit(tar_bytes)})
    assert {member.class_name for member in listing_of(open_source(str(own))).members} == {"cat", "dog"}
    other = put(tmp_path / "other", {"cat/1.JPEG": b"x"})
    with pytest.raises(SourceError, match=r"other has no images such as ILSVRC2012_val_0+1\.JPEG: leave --devkit out"):
        listing_of(open_source(str(other), own / DEVKIT))


@pytest.mark.parametrize("form", ["a folder", "a zip", "without the table", "the val folder alone"])
def test_kaggles_table_labels_its_validation_images(form: str, tar_bytes: TarBytes, tmp_path: Path) -> None:
    """LOC_val_solution.csv lies beside ILSVRC/, whose inner folder people give: then --classes names it."""
    top = "ILSVRC/Data/CLS-LOC"
    files = {f"{top}/train/{name}/{name}_{i}.JPEG": b"x" for name in LABELS for i in range(2)}
    files |= {f"{top}/val/{name}": content for name, content in images()}
    rows = [f"{name[:-5]},{label} 1 2 3 4 {label} 5 6 7 8 " for name, label in VAL.items()]
    table = "\n".join(["ImageId,PredictionString", *rows]).encode()
    put(tmp_path / "kaggle", files | {"LOC_val_solution.csv": table})
    layout, source = Layout(), tmp_path / "kaggle"
    if form == "a zip":
        source = put(tmp_path, {"kaggle.zip": zipped(files | {"LOC_val_solution.csv": table})}) / "kaggle.zip"
    elif form != "a folder":
        layout = Layout(classes=str(source / "LOC_val_solution.csv"))
        source = source / (f"{top}/val" if "alone" in form else top)
    listing = listing_of(open_source(str(source)), layout)
    assert labels(listing) == VAL
    assert sum(not member.refused for member in listing.members) == (6 if "alone" in form else 16)


def test_a_table_that_a_person_gives_outranks_the_devkit(tar_bytes: TarBytes, tmp_path: Path) -> None:
    put(tmp_path / "val", dict(images()) | {DEVKIT: devkit(tar_bytes)})
    (tmp_path / "own.csv").write_text("".join(f"{name},{'odd' if i % 2 else 'even'}\n" for i, name in enumerate(VAL)))
    listing = listing_of(open_source(str(tmp_path / "val")), Layout(classes=str(tmp_path / "own.csv")))
    assert set(labels(listing).values()) == {"odd", "even"}
