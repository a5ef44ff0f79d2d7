"""WebDataset shards: tars whose members KEY.jpg, KEY.cls and KEY.json are one sample. Read in place.

https://github.com/webdataset/webdataset: the key is the path up to the first dot of the file's name; .cls holds the
label as text. Where there is none, the label is "label", "cls" or "class" of the .json.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genmodel.data.sources.archives import Bytes, Entry, open_bytes, stamp_of, stretch_of, tar_entries
from genmodel.data.sources.members import (
    EXTENSIONS,
    FLAT_CLASS,
    Listing,
    Member,
    Source,
    hostile,
    is_hidden,
    listing,
    too_large,
)
from genmodel.data.sources.packed import read_whole
from genmodel.errors import SourceError
from genmodel.output.printable import is_printable, printable

_OPEN = 64  # shards whose handles are kept
_POINTS = 64  # of each, if it is a gzip, that it is unpacked from: 160 MB in all
_MAX_LABEL = 1 << 20  # bytes of a .cls or .json
_MAX_CLASS = 200  # characters of a class's name
_JSON_LABELS = "label", "cls", "class"


def is_webdataset(names: Sequence[str]) -> bool:
    """Whether a tar that begins with these members is a shard: labels beside the images."""
    images = {key for key, extension in map(_split, names) if extension in EXTENSIONS}
    labels = {key for key, extension in map(_split, names) if extension == "cls"}
    return bool(images and labels) or any(f"{key}.json" in names and "/" not in key for key in images)


class WebDataset(Source):
    """Shards, each a tar or tar.gz. An image's name is CLASS/KEY.jpg, or CLASS/SHARD/KEY.jpg if a key comes twice."""

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self._paths = sorted(paths)
        self.name, self.stamp, self.files = name, stamp_of(self._paths), self._paths
        self._opened: dict[int, Bytes] = {}

    def scan(self) -> Listing:
        images: list[tuple[str, str, int, Entry]] = []  # key, extension, shard, entry
        labels: dict[tuple[int, str], str] = {}
        refused: list[Member] = []
        ignored = 0
        for shard, path in enumerate(self._paths):
            content = self._content(shard)
            for entry in tar_entries(content, 0, content.length, str(path)):
                key, extension = _split(entry.name)
                if reason := entry.special or hostile(entry.name):
                    refused.append(Member("", printable(entry.name), (shard, entry.offset, entry.size), reason))
                elif is_hidden(entry.name) or extension not in EXTENSIONS | {"cls", "json"}:
                    ignored += 1
                elif extension in EXTENSIONS:
                    images.append((key, extension, shard, entry))
                elif entry.size <= _MAX_LABEL and (extension == "cls" or (shard, key) not in labels):
                    label = _label(extension, content.read_at(entry.offset, entry.size))
                    if label:
                        labels[shard, key] = label
        twice = len({image[:2] for image in images}) < len(images)
        members = [_member(image, labels, self._paths[image[2]].name.partition(".")[0] * twice) for image in images]
        return listing(refused + members, ignored)

    def unit(self, member: Member) -> object:
        shard, offset, _ = map(int, member.locator)
        stretch = stretch_of(self._content(shard), offset)
        return None if stretch is None else (shard, stretch)

    def read(self, member: Member) -> bytes:
        shard, offset, size = map(int, member.locator)
        return read_whole(self._content(shard), self._paths[shard], member, offset, size)

    def _content(self, shard: int) -> Bytes:
        if shard not in self._opened:
            if len(self._opened) == _OPEN:
                self._opened.pop(next(iter(self._opened)))
            try:
                self._opened[shard] = open_bytes(self._paths[shard], _POINTS)
            except FileNotFoundError as error:
                raise SourceError(f"{self._paths[shard]} is gone: fetch it again") from error
        return self._opened[shard]


def _member(image: tuple[str, str, int, Entry], labels: dict[tuple[int, str], str], inside: str) -> Member:
    key, extension, shard, entry = image
    label = labels.get((shard, key), "") if labels else FLAT_CLASS
    name = "/".join(part for part in (label, inside, f"{key}.{extension}") if part)
    refused = hostile(name) or too_large(entry.size) or ("" if label else "has no label (.cls) beside it")
    return Member(label, printable(name), (shard, entry.offset, entry.size), refused)


def _split(name: str) -> tuple[str, str]:
    """A member's key, and its extension in lower case."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _label(extension: str, content: bytes) -> str:
    """The label in a .cls or .json, fit for a class's name; nothing if there is none."""
    try:
        found: Any = content.decode().strip()
        if extension == "json":
            facts = json.loads(found)
            found = next((facts[key] for key in _JSON_LABELS if key in facts), "") if isinstance(facts, dict) else ""
    except (ValueError, RecursionError):
        return ""
    return class_name(found)


def class_name(label: Any) -> str:
    """A label, a whole number or a name, as a class's name; nothing if it is neither."""
    if isinstance(label, bool) or not isinstance(label, int | str):
        return ""
    if isinstance(label, str) and len(label) > 10 * _MAX_CLASS:
        return ""
    text = " ".join(str(label).split()).replace("/", "_")
    if text.startswith("-") or text in (".", "..") or len(text) > _MAX_CLASS or not is_printable(text):
        return ""
    return str(int(text)) if text.lstrip("+").isdecimal() else text  # 07 and 7 are one class
