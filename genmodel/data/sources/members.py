"""What a source is made of: files by path and locator, whatever they are packed in, and what a layout makes of them.

A source finds files (`Found`), a layout gives them meaning (arrange.py): images by class and name (`Listing`). Each
file is one of three things: an image that is used, an image that is refused with a reason, or ignored by a named rule.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genmodel.output.printable import is_printable, printable

FLAT_CLASS = "images"
EXTENSIONS = frozenset(
    ["jpg", "jpeg", "jpe", "jfif", "png", "ppm", "pgm", "pbm", "pnm", "bmp", "gif", "tif", "tiff", "webp"]
) | {"avif", "avifs", "heic", "heif", "hif", "jxl", "jp2", "j2k", "jpf", "jpx"}
_CELEBA = frozenset(f"list_{what}.{ending}" for what in ("attr_celeba", "eval_partition") for ending in ("txt", "csv"))
VALIDATION_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.JPEG")  # an image of ImageNet, whose class is in the DEVKIT
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"
LABEL_FILES = _CELEBA | {  # a source's own label files; labels.py reads them
    "dataset.json",
    "metadata.csv",
    "metadata.jsonl",
    "metadata.parquet",
    "val_annotations.txt",
    "loc_val_solution.csv",
}
_TEXT = frozenset(["txt", "json", "jsonl", "csv", "xml", "md", "html", "cls", "yaml", "yml"])  # never opened
_BMP_HEADERS = 12, 40, 52, 56, 64, 108, 124  # bytes, in the Windows and OS/2 versions
_MAX_NAME = 255  # bytes of a file or folder name, as in file systems
MAX_PATH = 4096  # characters of a whole name
_SYSTEM = "hidden or system file"
MAX_BYTES = 256 << 20  # of one image's file; a larger one is a mistake or a bomb

Locator = tuple[int | str, ...]  # what a source needs to find a file's bytes


class Reject(Exception):
    """One image that cannot be used; its text is the reason, the same on every machine."""


class Member(NamedTuple):
    """An image in a source; sorting members gives the canonical order: class, then name."""

    class_name: str  # empty: it has no label, or is refused
    name: str
    locator: Locator
    refused: str = ""  # why it is rejected unread
    split: str = ""  # "train" or "val" where the source has a val split
    attributes: str = ""  # JSON, an object of strings; empty if there are none


class Entry(NamedTuple):
    """A file of a source that may be an image or a label file."""

    path: str  # as in the source, after the path of the archive that it lies in
    locator: Locator
    refused: str = ""
    label: str | None = None  # the class that the container itself names; empty: it says there is none; None: unsaid
    split: str = ""  # as the container names it
    attributes: str = ""


class Ignored(NamedTuple):
    """The files that one rule left out."""

    files: int
    example: str


class Found(NamedTuple):
    """All files of a source."""

    entries: list[Entry]  # images, judging by extensions and first bytes
    label_files: list[Entry]
    ignored: dict[str, Ignored]  # by rule


class Listing(NamedTuple):
    """All files of a source, and what they mean."""

    members: list[Member]  # in canonical order
    ignored: dict[str, Ignored]  # by rule
    notes: tuple[str, ...] = ()  # lines for the person
    read: Mapping[str, Any] = {}  # how classes were determined; an update of the block reads its source the same way
    val: str = ""  # the name of the split that is held out, if the source has one

    @property
    def found(self) -> int:
        """How many files the source has."""
        return len(self.members) + sum(each.files for each in self.ignored.values())


class Source(ABC):
    """Files that may be images; opening.py opens the source at a location.

    It can be pickled, and a process forked after `scan` uses what the scan learned.
    """

    name: str  # short, without the machine's folders: it goes into block.json
    stamp: str = ""  # changes when the source does; a preparation under another stamp is not resumed
    files: Sequence[Path] = ()  # the archives that it is read from

    @abstractmethod
    def scan(self) -> Found:
        """All files; SourceError if the source is cut off or damaged."""

    @abstractmethod
    def read(self, member: Member) -> bytes:
        """A member's bytes; Reject if they cannot be read, SourceError if the source has changed since the scan."""

    def head(self, locator: Locator) -> bytes:
        """At least the first 32 bytes of a file, or all of it; sources that can read a part override this."""
        try:
            return self.read(Member("", "", locator))
        except Reject:
            return b""

    def unit(self, member: Member) -> object:
        """What is unpacked to read a member, if that is much more; its neighbours are then read with it. Or None."""
        return None


class Collector:
    """Gathers a source's files, one per call. `head` reads the first bytes of one whose extension says nothing."""

    def __init__(self, head: Callable[[Locator], bytes] | None = None) -> None:
        self._head = head
        self._found = Found([], [], {})

    def add(
        self,
        path: str,
        locator: Locator,
        size: int,
        special: str = "",
        inside: str = "",
        label: str | None = None,
        split: str = "",
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        """Add the file `path` of `size` bytes; `special`: why it is not a plain file; `inside`: its archive's path.

        `label`, `split` and `attributes` if the container itself knows them: a label is a class name, "" for an image
        without a label, None if the container does not say and its folders decide. A file with a label is an image
        whatever its extension.
        """
        shown = f"{inside}/{path}" if inside else path
        refused = hostile(path) or hostile(inside) or special
        if refused and not special and not is_printable(path) and not is_image("".join(path.split())):
            self.ignore(shown, _SYSTEM)  # the "Icon\\r" of a Mac's folder, say
        elif refused:
            self._found.entries.append(Entry(printable(shown), locator, refused))
        elif label is None and is_hidden(path):
            self.ignore(shown, _SYSTEM)
        else:
            told = json.dumps(dict(attributes), ensure_ascii=False, sort_keys=True) if attributes else ""
            plain = "/".join(parts_of(inside) + parts_of(path))
            entry = Entry(plain, locator, too_large(size), label, split, told)
            if label is not None or is_image(path):
                self._found.entries.append(entry)
            elif path.rpartition("/")[2].lower() in LABEL_FILES:
                self._found.label_files.append(entry)
            elif size and self._looks_like_image(path, locator):
                self._found.entries.append(entry)
            else:
                self.ignore(shown, f"not an image ({_ending(path)})")

    def ignore(self, path: str, rule: str) -> None:
        """Leave a file out by a rule, worded to follow "ignored: 3"."""
        before = self._found.ignored.get(rule)
        example = printable(path)
        self._found.ignored[rule] = (
            Ignored(before.files + 1, min(before.example, example)) if before else Ignored(1, example)
        )

    def found(self) -> Found:
        """All that was added."""
        return self._found

    def _looks_like_image(self, path: str, locator: Locator) -> bool:
        if self._head is None or path.rpartition(".")[2].lower() in _TEXT:
            return False
        return has_image_magic(self._head(locator))


def has_image_magic(head: bytes) -> bool:
    """Whether a file that begins with these 32 bytes is an image, of a format that some decoder may read."""
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")):
        return True
    if head.startswith((b"\0\0\0\x0cJXL ", b"\xff\x0a", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):  # JPEG XL, 2000
        return True
    if head[4:8] == b"ftyp":  # ISO's container: AVIF, HEIC
        return head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
    if head.startswith(b"BM"):
        return int.from_bytes(head[14:18], "little") in _BMP_HEADERS
    if head[:4] == b"RIFF":
        return head[8:12] == b"WEBP"
    return head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace() and head[3:4].isdigit()


def _ending(path: str) -> str:
    """A file's ending as a rule names it."""
    ending = path.rpartition("/")[2].rpartition(".")[2].lower()
    plain = ending.isascii() and ending.isalnum() and len(ending) <= 10 and "." in path.rpartition("/")[2]
    return f".{ending}" if plain else "no extension"


def in_label_order(classes: Iterable[str]) -> list[str]:
    """Classes in the order of their labels: whole numbers by value (2 before 10), then the others by name."""
    return sorted(set(classes), key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def is_image(path: str) -> bool:
    """Whether a file is an image by its name."""
    return path.rpartition("/")[2].rpartition(".")[2].lower() in EXTENSIONS


def is_hidden(path: str) -> bool:
    """Whether a system put the file there (.DS_Store, ._name, __MACOSX), not a person."""
    return any(part.startswith(".") or part == "__MACOSX" for part in parts_of(path))


def parts_of(path: str) -> list[str]:
    """The folders of a path, and its file."""
    return [part for part in path.split("/") if part not in ("", ".")]


def too_large(size: int) -> str:
    """Why an image's file of `size` bytes is refused, or nothing."""
    return f"too large for an image ({size:,} bytes)" if size > MAX_BYTES else ""


def hostile(path: str) -> str:
    """Why a name is refused, or nothing."""
    if path.isascii() and path.isprintable() and len(path) <= _MAX_NAME and path[:1] != "/" and ".." not in path:
        return ""  # nearly all of them
    if path.startswith("/"):
        return "an absolute path"
    if ".." in path.split("/"):
        return "a path with .."
    try:
        longest = max(len(part.encode()) for part in path.split("/"))
    except UnicodeEncodeError:
        return "a name that is not UTF-8"
    if longest > _MAX_NAME:
        return f"a name of more than {_MAX_NAME} bytes"
    if len(path) > MAX_PATH:
        return f"a name of more than {MAX_PATH:,} characters"
    return "" if is_printable(path) else "a name with control or hidden characters"
