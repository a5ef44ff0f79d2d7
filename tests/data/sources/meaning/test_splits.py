"""train, val and test as people have them: never classes, never mixed up."""

from collections.abc import Callable
from typing import Any

import pytest

from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.meaning.splits import canonical
from genmodel.data.sources.members import Listing
from genmodel.errors import ConfigError, SourceError

Arranged = Callable[..., Listing]
Classes = Callable[[Listing], dict[str, list[str]]]


def paths(*splits: str, classes: tuple[str, ...] = ("cat", "dog"), top: str = "") -> list[str]:
    return [f"{top}{split}/{name}/{i}.png" for split in splits for name in classes for i in range(2)]


def splits_of(listing: Listing) -> dict[str, int]:
    counts: dict[str, int] = {}
    for member in listing.members:
        counts[member.split] = counts.get(member.split, 0) + 1
    return counts


@pytest.mark.parametrize("top", ["", "chest_xray/", "a/b/"])
@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training", "Validation", "Testing"), ("TRAIN", "dev", "test_set")]
)
def test_folders_that_are_splits_are_no_classes(names: Any, top: str, arranged: Arranged, classes: Classes) -> None:
    listing = arranged(paths(*names, top=top))
    train, val, test = names
    assert classes(listing) == {
        name: sorted([f"{train}/{name}/0.png", f"{train}/{name}/1.png", f"{val}/{name}/0.png", f"{val}/{name}/1.png"])
        for name in ("cat", "dog")
    }
    assert (listing.val, splits_of(listing)) == (val, {"train": 4, "val": 4})
    assert listing.ignored[f"split {test}"] == (4, f"{top}{test}/cat/0.png")


def test_without_a_val_split_a_share_is_held_out(arranged: Arranged, classes: Classes) -> None:
    listing = arranged(paths("train", "test"))
    assert classes(listing) == {"cat": ["cat/0.png", "cat/1.png"], "dog": ["dog/0.png", "dog/1.png"]}
    assert (listing.val, splits_of(listing), listing.ignored["split test"].files) == ("", {"": 4}, 4)


def test_a_split_that_is_asked_for(arranged: Arranged) -> None:
    files = paths("train", "val", "test")
    alone = arranged(files, Layout(split="test"))
    assert (splits_of(alone), {rule: each.files for rule, each in alone.ignored.items()}) == (
        {"": 4},
        {"split train": 4, "split val": 4},
    )
    held = arranged(files, Layout(val_split="Test"))
    assert (held.val, splits_of(held), held.ignored["split val"].files) == ("test", {"train": 4, "val": 4}, 4)
    with pytest.raises(ConfigError, match="--split tset: set has no such split"):
        arranged(files, Layout(split="tset"))
    with pytest.raises(ConfigError, match="--val-split extra: set has the splits test, train, val"):
        arranged(files, Layout(split="train", val_split="extra"))
    with pytest.raises(ConfigError, match="--split val: set has no such split"):
        arranged(["cat/1.png", "dog/1.png"], Layout(split="val"))


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (paths("train", "val") + paths("extra"), "train and val may be splits, but extra lies beside"),
        ([*paths("train", "val"), "preview.png"], "train and val may be splits, but preview.png lies beside"),
        (paths("cat", "dog", "val"), "val may be splits, but cat lies beside"),
        (["bus/1.png", "train/bus/2.png", "train/car/3.png", "car/4.png"], "train may be splits, but bus lies beside"),
        (paths("val", "test"), "has the splits test, val: choose the one to read with --split NAME"),
        (paths("train", "val", "dev"), "has dev and val: choose one with --val-split, such as --val-split dev"),
    ],
)
def test_what_is_ambiguous_is_asked(files: list[str], said: str, arranged: Arranged) -> None:
    with pytest.raises(SourceError, match=said) as error:
        arranged(files)
    assert "--split" in str(error.value) or "--val-split" in str(error.value)


def test_the_answers_settle_it(arranged: Arranged, classes: Classes) -> None:
    mixed = paths("train", "val") + paths("extra")
    assert set(classes(arranged(mixed, Layout(classes="folder")))) == {"train", "val", "extra"}
    one = arranged(mixed, Layout(split="train"))
    assert set(classes(one)) == {"cat", "dog"} and one.ignored["split extra"].files == 4
    stray = arranged([*paths("train", "val"), "preview.png"], Layout(split="train", val_split="val"))
    assert stray.ignored["beside the splits"] == (1, "preview.png") and len(stray.members) == 8
    assert arranged(paths("train", "val", "dev"), Layout(val_split="dev")).ignored["split val"].files == 4
    assert set(classes(arranged(paths("train", "val"), Layout(classes="depth 1")))) == {"train", "val"}


def test_a_vehicle_called_train_is_a_class(arranged: Arranged, classes: Classes) -> None:
    assert set(classes(arranged(["bus/1.png", "car/1.png", "train/1.png"]))) == {"bus", "car", "train"}


def test_splits_below_the_classes(arranged: Arranged, classes: Classes) -> None:
    listing = arranged(
        [f"{name}/{split}/{i}.png" for name in ("cat", "dog") for split in ("train", "test") for i in (1, 2)]
    )
    assert classes(listing) == {
        "cat": ["cat/train/1.png", "cat/train/2.png"],
        "dog": ["dog/train/1.png", "dog/train/2.png"],
    }
    assert listing.ignored["split test"].files == 4


def test_a_split_folder_twice_in_one_path(arranged: Arranged, classes: Classes) -> None:
    """Intel's scenes on Kaggle: seg_train/seg_train/street/1.jpg."""
    files = [f"{split}/{split}/{name}/1.jpg" for split in ("seg_train", "seg_val") for name in ("sea", "street")]
    listing = arranged(files)
    assert {name: len(those) for name, those in classes(listing).items()} == {"sea": 2, "street": 2}


def test_tiny_imagenet(arranged: Arranged, classes: Classes) -> None:
    top = "tiny-imagenet-200"
    files = [f"{top}/train/{name}/images/{name}_{i}.JPEG" for name in ("n01", "n02") for i in range(2)]
    files += [f"{top}/{split}/images/{split}_{i}.JPEG" for split in ("val", "test") for i in range(2)]
    told = {f"{top}/val/val_annotations.txt": "val_0.JPEG\tn02\t0\t0\t9\t9\nval_1.JPEG\tn01\t0\t0\t9\t9\n"}
    listing = arranged(files, files=told)
    assert classes(listing) == {
        "n01": ["train/n01/images/n01_0.JPEG", "train/n01/images/n01_1.JPEG", "val/images/val_1.JPEG"],
        "n02": ["train/n02/images/n02_0.JPEG", "train/n02/images/n02_1.JPEG", "val/images/val_0.JPEG"],
    }
    assert listing.val == "val" and listing.ignored["split test"].files == 2


@pytest.mark.parametrize("labelled", [True, False])
def test_kaggles_imagenet(labelled: bool, arranged: Arranged, classes: Classes) -> None:
    top = "ILSVRC/Data/CLS-LOC"
    files = [f"{top}/train/{name}/{name}_{i}.JPEG" for name in ("n01", "n02") for i in range(2)]
    files += [f"{top}/val/ILSVRC2012_val_0000000{i}.JPEG" for i in (1, 2)] + [f"{top}/test/ILSVRC2012_test_1.JPEG"]
    table = "ImageId,PredictionString\nILSVRC2012_val_00000001,n02 1 2 3 4\nILSVRC2012_val_00000002,n01 1 2 3 4 n01 5 6"
    listing = arranged(files, files={"LOC_val_solution.csv": table} if labelled else {})
    assert {name: len(those) for name, those in classes(listing).items()} == {"n01": 2 + labelled, "n02": 2 + labelled}
    assert listing.val == ("val" if labelled else "")
    assert ("split val, whose images have no classes" in listing.ignored) is not labelled
    if not labelled:
        with pytest.raises(SourceError, match="the images of val have no classes: give them with --classes FILE"):
            arranged(files, Layout(val_split="val"))


def test_names_of_splits() -> None:
    for name in ("train", "Training", "train2017", "train_images", "training_set", "seg_train", "TRAIN-SET"):
        assert canonical(name) == "train", name
    for name in ("val", "valid", "Validation", "dev", "val2017"):
        assert canonical(name) == "val", name
    for name in ("trainer", "freight train", "testimony", "value", "contest", "0", "", "train_test"):
        assert canonical(name) == "", name
