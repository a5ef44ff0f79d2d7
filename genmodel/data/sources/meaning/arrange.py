"""What the files of a source mean: a layout turns them into images with class, name and split.

In this order: folders of masks are left out (folders.py); label files are applied (labelling.py); folders that are
splits are found, and one or two of the splits are read (splits.py); for images that have no class yet, folders are
classes, or only buckets (folders.py). docs/block.md has the table of what is recognised.

An image's name is its path without the folders that all images share, or CLASS/path if the container itself knows the
class. The same images get the same names from a folder, a tar, a tar of tars or a zip.
"""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Sequence

from genmodel.data.sources.meaning.accounting import Account, Image, Known, Parts
from genmodel.data.sources.meaning.folders import by_folder, without_masks
from genmodel.data.sources.meaning.labelling import Read, by_label_files
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.meaning.splits import by_split, shared_folders
from genmodel.data.sources.members import (
    DEVKIT,
    FLAT_CLASS,
    VALIDATION_NAME,
    Entry,
    Found,
    Listing,
    Member,
    Source,
    hostile,
)
from genmodel.errors import SourceError
from genmodel.output.printable import printable


def listing_of(source: Source, layout: Layout = Layout(), known: Known | None = None) -> Listing:  # noqa: B008
    """All files of a source and what they mean; errors are those of `scan` and `arrange`."""

    def read(entry: Entry) -> bytes:
        return source.read(Member("", entry.path, entry.locator))

    return arrange(source.scan(), read, layout, known, source.name)


def arrange(
    found: Found,
    read: Read,
    layout: Layout = Layout(),  # noqa: B008
    known: Known | None = None,
    where: str = "the source",
) -> Listing:
    """The images among the files of a source's scan, in canonical order; `read` returns a label file's bytes.

    SourceError where only a person can say what is meant, with the options for it; ConfigError for a layout that does
    not fit the source.
    """
    account = Account(where, dict(found.ignored))
    refused = [Member("", each.path, each.locator, each.refused) for each in found.entries if each.refused]
    known_folders: dict[str, Parts] = {}
    images = [_image(entry, known_folders) for entry in found.entries if not entry.refused]
    if layout.way == "auto":
        images = without_masks(images, account)
    images = by_label_files(images, found.label_files, read, layout, account)
    images, val = by_split(images, layout, account)
    images, way = by_folder(images, val, layout, known, account)
    _note_validation(images, layout, account)
    images, val = _without_classless_val(images, val, layout, account)
    members = _members(_without_labels(images, account), val, bool(val or (known and known.val_given)))
    return Listing(_without_doubles(sorted(refused + members)), account.ignored, tuple(account.notes), way, val)


def _image(entry: Entry, folders: dict[str, Parts]) -> Image:
    """An entry as an image; `folders` keeps the parts of each folder once."""
    folder, slash, file = unicodedata.normalize("NFC", entry.path).rpartition("/")
    if folder not in folders:
        folders[folder] = tuple(folder.split("/")) if slash else ()
    path = (*folders[folder], file)
    label = None if entry.label is None else unicodedata.normalize("NFC", entry.label)
    return Image(entry, path, path, label, split=entry.split, attributes=entry.attributes)


def _without_classless_val(images: list[Image], val: str, layout: Layout, account: Account) -> tuple[list[Image], str]:
    """The images and the val split, dropping a val split that has no classes at all: ImageNet's without its labels."""
    held = [image for image in images if val and image.split == val]
    if not held or any(image.label is not None for image in held):
        return images, val
    if layout.val_split:
        raise SourceError(f"{account.where}: the images of {val} have no classes: give them with --classes FILE")
    account.ignore([image.entry.path for image in held], f"split {val}, whose images have no classes")
    return [image for image in images if image.split != val], ""


def _note_validation(images: list[Image], layout: Layout, account: Account) -> None:
    """Note ImageNet's validation images without a class, unless that is what the person has said."""
    bare = [
        image for image in images if image.label in (None, FLAT_CLASS) and VALIDATION_NAME.fullmatch(image.path[-1])
    ]
    if bare and layout.way == "auto":
        fix = f"put {DEVKIT} beside the source, or say where it is with --devkit"
        account.notes.append(f"{len(bare):,} validation images of ImageNet have no classes: {fix}")


def _without_labels(images: list[Image], account: Account) -> list[Image]:
    """The images, all of one class if none of them has a label."""
    unlabelled = sum(image.label == "" for image in images)
    if unlabelled and unlabelled == sum(image.label is not None for image in images):
        account.notes.append("no image has a label (all are -1): all are put in one class")
        return [image._replace(label=FLAT_CLASS if image.label == "" else None) for image in images]
    if unlabelled:
        account.notes.append(f"images without a label (-1): {unlabelled:,}")
    return images


def _members(images: Sequence[Image], val: str, held: bool) -> list[Member]:
    """The images under their names; `held`: the block's val split is given, not a share of the images."""
    shared = shared_folders([image.path for image in images])
    cut = min((image.class_at for image in images if image.class_at >= 0), default=shared)
    cut = min(cut, shared)
    forms = Counter(image.path for image in images)
    members = []
    for image in images:
        entry = image.entry
        path = entry.path.split("/") if forms[image.path] > 1 else image.path  # as it is, if NFC makes two equal
        split = ("val" if val and image.split == val else "train") if held else ""
        if entry.label is None or not image.label:
            name = "/".join(path[cut if entry.label is None else 0 :])
        else:  # both splits may have the same path
            name = "/".join([image.label, *[val] * (split == "val"), *path])
        refused = image.missing or ("has no label" if image.label is None else hostile(name) if entry.label else "")
        shown = printable(name) if refused else name
        members.append(
            Member("" if refused else image.label or "", shown, entry.locator, refused, split, image.attributes)
        )
    return members


def _without_doubles(members: list[Member]) -> list[Member]:
    """Refuse every image whose name occurs twice: only the archive's order could say which one is meant."""
    result: list[Member] = []
    for _, group in itertools.groupby(members, key=lambda member: (member.class_name, member.name)):
        same = list(group)
        if len(same) > 1 and not any(member.refused for member in same):
            same = [member._replace(refused=f"a name that occurs {len(same)} times") for member in same]
        result += same
    return result
