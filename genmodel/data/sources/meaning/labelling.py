"""Adds to images what label files say about them."""

from collections.abc import Callable, Sequence

from genmodel.data.sources.meaning.accounting import Account, Image
from genmodel.data.sources.meaning.labels import ONLY_CLASSES, LabelFile, as_json, read_classes, read_label_file
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import MAX_BYTES, Entry, Reject
from genmodel.errors import SourceError
from genmodel.output.printable import printable

Read = Callable[[Entry], bytes]


def by_label_files(
    images: list[Image], brought: Sequence[Entry], read: Read, layout: Layout, account: Account
) -> list[Image]:
    """The images with the classes, splits and attributes that --classes FILE and the source's own label files give.

    Any other --classes also overrides the source's own classes. SourceError for a damaged file.
    """
    files = []
    for entry in sorted(brought, key=lambda entry: entry.path):
        if layout.way != "auto" and entry.path.rpartition("/")[2].lower() in ONLY_CLASSES:
            account.ignore([entry.path], "classes that are not used")  # not even read: they may be what is wrong
            continue
        found = read_label_file(entry.path, _content(entry, read)) if not entry.refused else None
        account.ignore([entry.path], "read for labels" if found else "not a label file despite its name")
        files += [found] if found else []
    if layout.way == "file":
        if layout.file.stat().st_size > MAX_BYTES:
            raise SourceError(f"{layout.classes} has more than {MAX_BYTES:,} bytes: give a smaller file of labels")
        file = read_classes(layout.classes, layout.file.read_bytes())
        if file.required:  # it overrides what the source itself says
            images = [image._replace(label=None) for image in images]
        images = _told(images, file, True, account)
    for file in files:
        images = _told(images, file, layout.way == "auto", account)
    return images


def _content(entry: Entry, read: Read) -> bytes:
    try:
        return read(entry)
    except Reject as reject:
        raise SourceError(f"{printable(entry.path)} cannot be read ({reject}): fetch it again") from reject


def _told(images: list[Image], file: LabelFile, classes: bool, account: Account) -> list[Image]:
    """The images with what one file says, its classes only if `classes` is set."""
    folder = tuple(file.folder.split("/")) if file.folder else ()
    name = file.path.rpartition("/")[2]
    used: dict[str, str] = {}  # key -> the image that it named
    result = []
    for image in images:
        if image.path[: len(folder)] != folder:
            result.append(image)
            continue
        if file.required and not file.told:  # dataset.json with {"labels": null}
            result.append(image._replace(label="" if classes and image.label is None else image.label))
            continue
        key, exact = _key(image.path[len(folder) :], file)
        if key is None:
            missing = f"has no label in {name}" if file.required and classes and image.label is None else ""
            result.append(image._replace(missing=image.missing or missing))
            continue
        if key in used and not exact:
            raise SourceError(
                f"{printable(file.path)}: {printable(key)} names several images ({printable(used[key])}, "
                f"{printable(image.entry.path)}): write their folders too"
            )
        used[key] = image.entry.path
        told = file.told[key]
        label = told.label if classes and image.label is None else image.label
        image = image._replace(split=image.split or told.split, attributes=image.attributes or as_json(told.attributes))
        result.append(image._replace(label=label, missing="" if label is not None else image.missing))
    if absent := len(file.told) - len(used):
        account.notes.append(f"names in {printable(name)} without an image here: {absent:,}")
    return result


def _key(parts: tuple[str, ...], file: LabelFile) -> tuple[str | None, bool]:
    """The name under which a file lists an image, its path or the end of it, and whether it is the whole path."""
    for start in range(len(parts)):
        path = "/".join(parts[start:])
        for key in (path, path.rpartition(".")[0]):
            if key in file.told:
                return key, start == 0
    return None, False
