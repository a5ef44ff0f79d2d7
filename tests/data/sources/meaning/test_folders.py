"""Folders that are classes, buckets or masks."""

from collections.abc import Callable

import pytest

from genmodel.data.sources.meaning.accounting import Known
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import Listing
from genmodel.errors import ConfigError, SourceError

Arranged = Callable[..., Listing]
Classes = Callable[[Listing], dict[str, list[str]]]

FFHQ = [f"{number // 1000 * 1000:05d}/{number:05d}.png" for number in range(0, 3000, 300)]
DATASET_TOOL = [f"{number // 1000:05d}/img{number:08d}.png" for number in range(0, 3000, 300)]
IDENTITIES = [f"{person:07d}/{photo:03d}.jpg" for person in (45, 99, 100) for photo in range(1, 4)]  # CASIA-WebFace


@pytest.mark.parametrize("files", [FFHQ, DATASET_TOOL, FFHQ[:3], DATASET_TOOL[:3]])
def test_buckets_of_numbered_images_are_no_classes(files: list[str], arranged: Arranged, classes: Classes) -> None:
    listing = arranged(files)
    assert list(classes(listing)) == ["images"]
    assert "are not classes (--classes folder if they are)" in listing.notes[0]
    assert len(classes(arranged(files, Layout(classes="folder")))) == len({path[:5] for path in files})


def test_numbers_that_are_classes(arranged: Arranged, classes: Classes) -> None:
    assert len(classes(arranged(IDENTITIES))) == 3
    assert set(classes(arranged([f"{digit}/{i}.png" for digit in range(10) for i in range(3)]))) == set("0123456789")


def test_images_numbered_through_are_asked_about(arranged: Arranged) -> None:
    files = [f"{i // 10:05d}/{i}.png" for i in range(30)]
    with pytest.raises(SourceError, match=r"--classes none if the folders only split up .* or --classes folder"):
        arranged(files)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["images/1.png", "masks/1.png"], {"images": ["1.png"]}),
        (["set/images/cat/1.png", "set/annotations/cat/1.png"], {"cat": ["cat/1.png"]}),
        (
            ["a/images/1.png", "a/masks/1.png", "b/images/1.png", "b/masks/1.png"],
            {"a": ["a/images/1.png"], "b": ["b/images/1.png"]},
        ),
        (["train/1.png", "train_masks/1.png"], {"images": ["1.png"]}),
    ],
)
def test_masks_beside_the_images_are_left_out(
    files: list[str], expected: dict[str, list[str]], arranged: Arranged, classes: Classes
) -> None:
    listing = arranged(files)
    assert classes(listing) == expected
    assert [rule.startswith("masks beside the images") for rule in listing.ignored] == [True]
    assert len(classes(arranged(files, Layout(classes="depth 1")))) > 0  # every folder counts for one who says so


def test_classes_called_as_masks_are(arranged: Arranged, classes: Classes) -> None:
    assert set(classes(arranged(["masks/1.png", "hats/1.png"]))) == {"masks", "hats"}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["a/1.jpg", "stray.jpg"], r"beside class folders and inside them \(stray.jpg and a/1.jpg\)"),
        (["a/1.jpg", "b/c/2.jpg"], r"1 and 2 folders deep \(a/1.jpg and b/c/2.jpg\)"),
    ],
)
def test_different_depths_are_asked_about(files: list[str], said: str, arranged: Arranged) -> None:
    with pytest.raises(SourceError, match=said) as error:
        arranged(files)
    assert "--classes folder" in str(error.value) and "--classes none" in str(error.value)


def test_the_answers_settle_it(arranged: Arranged, classes: Classes) -> None:
    stray = arranged(["a/1.jpg", "stray.jpg"], Layout(classes="folder"))
    assert classes(stray) == {"a": ["a/1.jpg"]}
    assert [member.refused for member in stray.members] == ["is not in a class folder", ""]
    assert classes(arranged(["a/1.jpg", "stray.jpg"], Layout(classes="none"))) == {"images": ["a/1.jpg", "stray.jpg"]}
    deep = ["a/1.jpg", "b/c/2.jpg", "b/d/3.jpg"]
    assert classes(arranged(deep, Layout(classes="folder"))) == {"a": ["a/1.jpg"], "b": ["b/c/2.jpg", "b/d/3.jpg"]}
    second = arranged(deep, Layout(classes="depth 2"))
    assert classes(second) == {"c": ["b/c/2.jpg"], "d": ["b/d/3.jpg"]}
    assert [member.refused for member in second.members if member.refused] == ["is not in a class folder"]
    with pytest.raises(ConfigError, match="counts an image's folders from 1"):
        arranged(deep, Layout(classes="depth 0"))
    with pytest.raises(ConfigError, match="give none, folder, 'depth N', or a file of labels; folders is not a file"):
        arranged(deep, Layout(classes="folders"))


def test_names_of_two_forms_of_unicode_are_one_class(arranged: Arranged, classes: Classes) -> None:
    """macOS writes decomposed names; where both forms occur each file stays, under a name of its own."""
    composed, decomposed = "caf\xe9", "cafe\u0301"
    assert classes(arranged([f"{decomposed}/1.png", "b/1.png"])) == classes(arranged([f"{composed}/1.png", "b/1.png"]))
    both = arranged([f"{composed}/1.png", f"{decomposed}/1.png", f"{decomposed}/2.png", "b/1.png"])
    assert classes(both)[composed] == [f"{decomposed}/1.png", f"{composed}/1.png", f"{composed}/2.png"]
    assert not any(member.refused for member in both.members)


BLOCK = Known(["cat", "dog"], {"classes": "folder", "below": 1}, False)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["cat/persian/4.png", "cat/tabby/5.png"], {"cat": ["cat/persian/4.png", "cat/tabby/5.png"]}),
        (["new/cat/4.png"], {"cat": ["cat/4.png"]}),
        (["train/cat/4.png", "train/owl/5.png"], {"cat": ["cat/4.png"], "owl": ["owl/5.png"]}),
        (["bird/owl/1.png", "bird/emu/2.png"], {"bird": ["bird/emu/2.png", "bird/owl/1.png"]}),
    ],
)
def test_an_update_reads_with_the_blocks_own_way(
    files: list[str], expected: dict[str, list[str]], arranged: Arranged, classes: Classes
) -> None:
    assert classes(arranged(files, known=BLOCK)) == expected


def test_an_update_of_flat_images_is_asked_about(arranged: Arranged, classes: Classes) -> None:
    with pytest.raises(SourceError, match=r"6\.png is not in a class folder, .* are: use --classes FILE"):
        arranged(["6.png"], known=BLOCK)
    assert classes(arranged(["a/6.png", "b/7.png"], known=Known(["images"], {"classes": "none"}, False))) == {
        "images": ["a/6.png", "b/7.png"]
    }
    held = arranged(["cat/a/1.png"], known=Known(["cat"], {"classes": "folder"}, True))
    assert [member.split for member in held.members] == ["train"]  # the block's val split was given, not drawn
