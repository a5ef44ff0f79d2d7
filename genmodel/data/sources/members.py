"""What a source is made of: images by class and name, whatever they are packed in, and what is refused.

A name is CLASS/rest; the same images get the same names from a folder, a tar, a tar of tars or a zip. Folders that all
images share (train/CLASS/x.jpg) are left out; images without any folder are of the one class "images".
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from genmodel.output.printable import is_printable, printable

FLAT_CLASS = "images"
EXTENSIONS = frozenset(
    ["jpg", "jpeg", "jpe", "jfif", "png", "ppm", "pgm", "pbm", "pnm", "bmp", "gif", "tif", "tiff", "webp"]
)
_MAX_NAME = 255  # bytes of a file's or folder's name, as file systems have it
MAX_PATH = 4096  # characters of a whole name
MAX_BYTES = 256 << 20  # of one image's file; a larger one is a mistake or a bomb


class Reject(Exception):
    """One image that cannot be used; its text is the reason, the same on every machine."""


class Member(NamedTuple):
    """An image in a source; sorting members gives the canonical order: class, then name."""

    class_name: str
    name: str
    locator: tuple[int | str, ...]  # what the source needs to find its bytes
    refused: str = ""  # why it is rejected unread


class Listing(NamedTuple):
    """All of a source: its images in canonical order, and how many files are no images."""

    members: list[Member]
    ignored: int


class Source(ABC):
    """Raw images by class and name; sources.py opens the one that lies at a location.

    It may be pickled, and a process forked after `scan` uses what the scan learned.
    """

    name: str  # short, without the machine's folders: it goes into block.json
    stamp: str = ""  # changes when the source does; a preparation under another stamp is not resumed
    files: Sequence[Path] = ()  # the archives that it is read from

    @abstractmethod
    def scan(self) -> Listing:
        """All members in canonical order; SourceError if the source is cut off or damaged."""

    @abstractmethod
    def read(self, member: Member) -> bytes:
        """A member's bytes; Reject if they cannot be had, SourceError if the source has changed since the scan."""

    def unit(self, member: Member) -> object:
        """What is unpacked to read a member, if that is much more: its neighbours are read with it. None: nothing."""
        return None


class Collector:
    """Gathers a source's entries and names them."""

    def __init__(self) -> None:
        self._found: list[tuple[str, tuple[int | str, ...], str]] = []
        self._ignored = 0

    def add(self, path: str, locator: tuple[int | str, ...], size: int, special: str = "", inside: str = "") -> None:
        """Add the entry `path` of `size` bytes; `special`: why it is not a plain file; `inside`: its archive."""
        refused = special or hostile(path) or hostile(inside)
        if refused and not special and not is_printable(path) and not is_image("".join(path.split())):
            self._ignored += 1  # the "Icon\\r" of a Mac's folder, say
        elif refused:
            shown = f"{inside}/{path}" if inside else path
            self._found.append((printable(shown), locator, refused))
        elif is_hidden(path) or not is_image(path):
            self._ignored += 1
        else:
            self._found.append(("/".join(_parts(inside) + _parts(path)), locator, too_large(size)))

    def listing(self) -> Listing:
        """The members in canonical order."""
        hostile = [entry for entry in self._found if entry[2]]
        plain = [entry for entry in self._found if not entry[2]]
        cut = _shared_folders([path for path, _, _ in plain])
        flat = all("/" not in path for path, _, _ in plain)
        members = [Member("", *entry) for entry in hostile]
        for path, locator, _ in plain:
            name = path.split("/", cut)[-1]
            top, slash, _ = name.partition("/")
            if slash or flat:
                members.append(Member(top if slash else FLAT_CLASS, name, locator))
            else:
                members.append(Member("", name, locator, "lies beside the class folders, in none of them"))
        return listing(members, self._ignored)


def listing(members: Iterable[Member], ignored: int) -> Listing:
    """The members in canonical order, those refused whose names occur twice."""
    return Listing(_without_doubles(sorted(members)), ignored)


def in_label_order(classes: Iterable[str]) -> list[str]:
    """Classes in the order of their labels: whole numbers by value (2 before 10), then the others by name."""
    return sorted(set(classes), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def is_image(path: str) -> bool:
    """Whether a file is an image by its name."""
    return path.rpartition("/")[2].rpartition(".")[2].lower() in EXTENSIONS


def is_hidden(path: str) -> bool:
    """Whether a system put the file there (.DS_Store, ._name, __MACOSX), not a person."""
    return any(part.startswith(".") or part == "__MACOSX" for part in _parts(path))


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part not in ("", ".")]


def too_large(size: int) -> str:
    """Why an image's file of `size` bytes is refused, or nothing."""
    return f"{size:,} bytes are too many for an image" if size > MAX_BYTES else ""


def hostile(path: str) -> str:
    """Why a name is refused, or nothing."""
    if path.startswith("/"):
        return "an absolute name"
    if ".." in path.split("/"):
        return "a name with .."
    try:
        longest = max(len(part.encode()) for part in path.split("/"))
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if longest > _MAX_NAME:
        return f"a name of more than {_MAX_NAME} bytes"
    if len(path) > MAX_PATH:
        return f"a name of more than {MAX_PATH:,} characters"
    return "" if is_printable(path) else "a name with control or hidden characters"


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
