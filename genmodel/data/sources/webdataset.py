"""WebDataset shards: tars whose members KEY.jpg, KEY.cls and KEY.json are one sample. Read in place.

https://github.com/webdataset/webdataset: the key is the path up to the first dot of the file's name; .cls holds the
label as text. Where there is none, the label is "label", "cls" or "class" of the .json.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genmodel.data.sources.archives import Bytes, Entry, stamp_of, tar_entries
from genmodel.data.sources.labels import class_name
from genmodel.data.sources.links import followed
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
from genmodel.data.sources.packed import read_whole
from genmodel.data.sources.streams import Streams

_MAX_LABEL = 1 << 20  # bytes of a .cls or .json
_LABELS = frozenset(["cls", "json"])
_JSON_LABELS = "label", "cls", "class"


def is_webdataset(names: Sequence[str]) -> bool:
    """Whether a tar that begins with these members is a shard: labels beside the images."""
    images = {key for key, extension in map(_split, names) if extension in EXTENSIONS}
    labels = {key for key, extension in map(_split, names) if extension == "cls"}
    return bool(images and labels) or any(f"{key}.json" in names and "/" not in key for key in images)


class WebDataset(Source):
    """Shards, each a tar or tar.gz. An image's path is KEY.jpg, or SHARD/KEY.jpg if a key comes twice."""

    def __init__(self, paths: Sequence[Path], name: str, room: Path | None = None) -> None:
        self._paths = sorted(paths)
        self.name, self.stamp, self.files = name, stamp_of(self._paths), self._paths
        self._streams = Streams([[path] for path in self._paths], room)

    def scan(self) -> Found:
        found = Collector()
        images: list[tuple[str, str, int, Entry]] = []  # key, extension, shard, entry
        labels: dict[tuple[int, str], str | None] = {}
        for shard, path in enumerate(self._paths):
            content = self._content(shard)
            for entry in _followed(content, str(path)):
                key, extension = _split(entry.name)
                if entry.special or hostile(entry.name):
                    found.add(entry.name, (shard, entry.offset, entry.size), entry.size, entry.special)
                elif is_hidden(entry.name) or extension not in EXTENSIONS | _LABELS:
                    found.ignore(entry.name, _ignored_by(entry.name, extension))
                elif extension in EXTENSIONS:
                    images.append((key, extension, shard, entry))
                else:
                    found.ignore(entry.name, f"beside an image (.{extension})")
                    if entry.size <= _MAX_LABEL and (extension == "cls" or labels.get((shard, key)) is None):
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


def _ignored_by(name: str, extension: str) -> str:
    return "a system's own file" if is_hidden(name) else f"beside an image (.{extension})"


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
