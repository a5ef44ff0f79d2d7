"""WebDataset shards: tars whose members KEY.jpg, KEY.cls and KEY.json are one sample. Read in place.

https://github.com/webdataset/webdataset: the key is the path up to the first dot of the file's name, or up to the last
dot if the first gives no image or a label has that longer key. .cls holds the label as text. Without one, the label is
"label", "cls" or "class" of the .json.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genmodel.data.sources.archives.content import Bytes, stamp_of
from genmodel.data.sources.archives.entries import Entry, tar_entries
from genmodel.data.sources.archives.links import followed
from genmodel.data.sources.archives.packed import read_whole
from genmodel.data.sources.archives.streams import Streams
from genmodel.data.sources.meaning.labels import class_name
from genmodel.data.sources.members import (
    EXTENSIONS,
    FLAT_CLASS,
    Collector,
    Found,
    Member,
    Source,
    hostile,
    is_hidden,
)

_MAX_LABEL = 1 << 20  # bytes of a .cls or .json
_LABELS = frozenset(["cls", "json"])
_JSON_LABELS = "label", "cls", "class"


def is_webdataset(names: Sequence[str]) -> bool:
    """Whether a tar that begins with these members is a shard: it has labels beside the images."""
    known = set(names)
    images = {key for key, extension in map(_split, names) if extension in EXTENSIONS}
    labels = {key for key, extension in map(_split, names) if extension == "cls"}
    return bool(images and labels) or any(f"{key}.json" in known and "/" not in key for key in images)


class _Image(NamedTuple):
    key: str
    extension: str
    shard: int
    entry: Entry


class WebDataset(Source):
    """Shards, each a tar or tar.gz. An image's path is KEY.jpg, or SHARD/KEY.jpg if a key occurs twice."""

    def __init__(self, paths: Sequence[Path], name: str, room: Path | None = None) -> None:
        self._paths = sorted(paths)
        self.name, self.stamp, self.files = name, stamp_of(self._paths), self._paths
        self._streams = Streams([[path] for path in self._paths], room)

    def scan(self) -> Found:
        found = Collector()
        images: list[_Image] = []
        labels: dict[tuple[int, str], str | None] = {}
        for shard, path in enumerate(self._paths):
            content = self._content(shard)
            those: list[tuple[Entry, str, str]] = []
            for entry in _followed(content, str(path)):
                locator = shard, entry.offset, entry.size
                if entry.special or hostile(entry.name) or is_hidden(entry.name):
                    found.add(entry.name, locator, entry.size, entry.special)
                else:
                    those.append((entry, *_split(entry.name)))
            plain = {key for _, key, extension in those if extension in EXTENSIONS}
            labelled = {_at_last_dot(entry.name)[0] for entry, _, _ in those if _at_last_dot(entry.name)[1] in _LABELS}
            for entry, key, extension in those:
                last_key, last = _at_last_dot(entry.name)
                if extension not in EXTENSIONS | _LABELS and (key not in plain or last_key in labelled):
                    key, extension = last_key, last  # "frame 22.01.png" with "frame 22.01.cls", or alone
                if extension in EXTENSIONS:
                    images.append(_Image(key, extension, shard, entry))
                    continue
                found.ignore(entry.name, f"beside an image (.{extension if extension in _LABELS else last})")
                fits = extension in _LABELS and entry.size <= _MAX_LABEL
                if fits and (extension == "cls" or labels.get((shard, key)) is None):
                    labels[shard, key] = _label(extension, content.read_at(entry.offset, entry.size))
        twice = len({image[:2] for image in images}) < len(images)
        flat = not any(label is not None for label in labels.values())
        for key, extension, shard, entry in images:
            label = FLAT_CLASS if flat else labels.get((shard, key))
            special = "has no label (.cls) beside it" if label is None else ""
            inside = self._paths[shard].name.partition(".")[0] if twice else ""
            locator = shard, entry.offset, entry.size
            found.add(f"{key}.{extension}", locator, entry.size, special, inside, label)
        return found.found()

    def unit(self, member: Member) -> object:
        shard, offset, _ = map(int, member.locator)
        return self._streams.stretch(self._streams.unpacked(shard), offset)

    def read(self, member: Member) -> bytes:
        shard, offset, size = map(int, member.locator)
        return read_whole(self._content(shard), self._paths[shard], member, offset, size)

    def _content(self, shard: int) -> Bytes:
        return self._streams.open(self._streams.unpacked(shard))


def _followed(content: Bytes, where: str) -> Iterator[Entry]:
    return followed(lambda: tar_entries(content, 0, content.length, where))


def _split(name: str) -> tuple[str, str]:
    """A member's key, and its extension in lower case."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _at_last_dot(name: str) -> tuple[str, str]:
    """The same as _split(), for a key that contains dots."""
    stem, _, extension = name.removeprefix("./").rpartition(".")
    return stem, extension.lower()


def _label(extension: str, content: bytes) -> str | None:
    """The label in a .cls or .json as a class's name, "" for -1; None if there is none."""
    try:
        found: Any = content.decode().strip()
        if extension == "json":
            facts = json.loads(found)
            found = (
                next((facts[key] for key in _JSON_LABELS if key in facts), None) if isinstance(facts, dict) else None
            )
    except (ValueError, RecursionError):
        return None
    return class_name(found)
