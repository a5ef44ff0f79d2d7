"""What the files of a source mean: a layout makes images of them, by class, name and split.

A name is CLASS/rest; the same images get the same names from a folder, a tar, a tar of tars or a zip. Folders that all
images share (train/CLASS/x.jpg) are left out; images without any folder are of the one class "images".
"""

import itertools
from collections.abc import Callable, Iterable

from genmodel.data.sources.layout import Layout
from genmodel.data.sources.members import FLAT_CLASS, Entry, Found, Listing, Member, Source, hostile
from genmodel.output.printable import printable

Read = Callable[[Entry], bytes]


def listing_of(source: Source, layout: Layout = Layout()) -> Listing:  # noqa: B008
    """All files of a source and what they mean; errors are those of `scan` and `arrange`."""
    return arrange(source.scan(), lambda entry: source.read(Member("", entry.path, entry.locator)), layout)


def arrange(found: Found, read: Read, layout: Layout = Layout()) -> Listing:  # noqa: B008
    """The images among what a source's scan found; `read` gives a label file's bytes.

    SourceError where only a person can tell what is meant; it names the options that do.
    """
    members = [Member("", entry.path, entry.locator, entry.refused) for entry in found.entries if entry.refused]
    plain = [entry for entry in found.entries if not entry.refused]
    members += [_labelled(entry) for entry in plain if entry.label is not None]
    members += _by_folders([entry for entry in plain if entry.label is None])
    return Listing(_without_doubles(sorted(members)), found.ignored)


def _labelled(entry: Entry) -> Member:
    name = f"{entry.label}/{entry.path}" if entry.label else entry.path
    refused = hostile(name)
    return Member("" if refused else entry.label or "", printable(name), entry.locator, refused)


def _by_folders(entries: list[Entry]) -> Iterable[Member]:
    cut = _shared_folders([entry.path for entry in entries])
    flat = all("/" not in entry.path for entry in entries)
    for entry in entries:
        name = entry.path.split("/", cut)[-1]
        top, slash, _ = name.partition("/")
        if slash or flat:
            yield Member(top if slash else FLAT_CLASS, name, entry.locator)
        else:
            yield Member("", name, entry.locator, "lies beside the class folders, in none of them")


def _shared_folders(paths: list[str]) -> int:
    """How many leading folders all paths share, a folder for the class kept back."""
    if not paths:
        return 0
    first, last = min(paths), max(paths)
    same = sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    depth = min(path.count("/") for path in paths)
    return max(0, min(first[:same].count("/"), depth - 1))


def _without_doubles(members: list[Member]) -> list[Member]:
    """Refuse every image whose name occurs twice: which of them is meant, only the archive's order could tell."""
    result: list[Member] = []
    for _, group in itertools.groupby(members, key=lambda member: (member.class_name, member.name)):
        same = list(group)
        if len(same) > 1 and not any(member.refused for member in same):
            same = [member._replace(refused=f"a name that occurs {len(same)} times") for member in same]
        result += same
    return result
