"""LMDB with one image per key, as in LSUN, read in place: by this file itself, because liblmdb trusts every page.

The pages are those of LMDB 0.9 on a 64-bit little-endian machine (lmdb's mdb.c: MDB_page, MDB_node, MDB_meta):
two headers, of which the newer counts; branches of page numbers; leaves of keys and values, a long value in pages of
its own.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from genmodel.data.sources.archives.content import Bytes, PlainFile, stamp_of
from genmodel.data.sources.archives.packed import read_whole
from genmodel.data.sources.meaning.splits import canonical
from genmodel.data.sources.members import Collector, Found, Locator, Member, Source, has_image_magic
from genmodel.errors import SourceError
from genmodel.output.counting import counted
from genmodel.output.printable import is_printable

_MAGIC = 0xBEEFC0DE
_NONE = (1 << 64) - 1  # the page number that means no page
_BRANCH, _LEAF = 1, 2  # flags of a page
_LONG = 1  # flags of a value: in pages of its own; 2 and 4 are nested tables, which LSUN does not have
_HEADER = 16
_ENTRIES, _BYTES_AN_ENTRY = 1 << 18, 64  # keys that any file may have; beyond that, bytes required per key
_DEEPEST = 32
_PAGES = 256, 1 << 16  # bytes that a page may have
_RULE = "a value that is not an image"


class _Value(NamedTuple):
    key: bytes
    offset: int
    size: int


def lmdb_folders(folder: Path) -> list[tuple[Path, str]]:
    """The LMDB files in a folder or its subfolders, each with its folder's name; an empty name if there is only one."""
    if (folder / "data.mdb").is_file():
        return [(folder / "data.mdb", "")]
    found = sorted(path for path in folder.glob("*/data.mdb") if path.is_file())
    return [(path, path.parent.name if len(found) > 1 else "") for path in found]


class Lmdb(Source):
    """LMDB files. If several, each is a class named by its folder: bedroom_train_lmdb is bedroom, split train."""

    def __init__(self, files: Sequence[tuple[Path, str]], name: str) -> None:
        self._paths, self._names = [path for path, _ in files], [folder for _, folder in files]
        self._files = [PlainFile(path) for path in self._paths]
        self.name, self.files, self.stamp = name, self._paths, stamp_of(self._paths)

    def scan(self) -> Found:
        found = Collector(self.head)
        for number, (path, folder) in enumerate(zip(self._paths, self._names, strict=True)):
            label, split = _meant(folder)
            for value in _values(self._files[number], str(path)):
                locator = number, value.offset, value.size
                name = _name(value.key)
                if not has_image_magic(self.head(locator)):
                    found.ignore(f"{folder}/{name}" if folder else name, _RULE)
                else:
                    found.add(name, locator, value.size, "", folder, label=label, split=split)
        if not found.found().entries:
            raise SourceError(f"{self.name}: the values of this LMDB are not image files (JPEG, PNG, WebP, ...)")
        return found.found()

    def head(self, locator: Locator) -> bytes:
        number, offset, size = map(int, locator)
        return self._files[number].read_at(offset, min(size, 32))

    def read(self, member: Member) -> bytes:
        number, offset, size = map(int, member.locator)
        return read_whole(self._files[number], self._paths[number], member, offset, size)


def _meant(folder: str) -> tuple[str | None, str]:
    """The class and the split in a folder's name."""
    if not folder:
        return None, ""
    words = [word for word in folder.split("_") if word.lower() != "lmdb"]
    splits = [canonical(word) for word in words if canonical(word)]
    label = "_".join(word for word in words if not canonical(word))
    return label or folder, splits[0] if splits else ""


def _name(key: bytes) -> str:
    text = key.decode("utf-8", "replace")
    plain = is_printable(text) and "\ufffd" not in text and not text.startswith(".")
    return text if plain and re.search(r"\w", text) else key.hex()


def _values(content: Bytes, where: str) -> Iterator[_Value]:
    """All values in key order; SourceError if the file is truncated or damaged."""
    length = content.length
    size, root, entries = _newest(content, where)
    if entries > max(_ENTRIES, length // _BYTES_AN_ENTRY):
        raise SourceError(f"{where} claims {entries:,} keys, too many for its size: fetch it again")
    waiting = [(root, 0)] if root != _NONE else []
    pages = count = 0
    while waiting:
        number, depth = waiting.pop()
        pages += 1
        page = content.read_at(number * size, size) if number < length // size else b""
        if len(page) < size or pages > length // size or depth > _DEEPEST:
            raise SourceError(f"{where} is cut off or damaged at page {number:,}: fetch it again")
        flags, lower = struct.unpack_from("<HH", page, 10)
        if struct.unpack_from("<Q", page)[0] != number or not _HEADER <= lower <= size or flags & 3 not in (1, 2):
            raise SourceError(f"{where} is damaged at page {number:,}: fetch it again")
        nodes = struct.unpack_from(f"<{(lower - _HEADER) // 2}H", page, _HEADER)
        if flags & _BRANCH:
            waiting += [(_child(page, node, where), depth + 1) for node in reversed(nodes)]
            continue
        for node in nodes:
            count += 1
            value = _value(page, number * size, node, where)
            if value.offset < 0:  # ~number: in pages of its own
                value = value._replace(offset=~value.offset * size + _HEADER)
            if count > entries or value.offset + value.size > length:
                raise SourceError(f"{where} is cut off or damaged at page {number:,}: fetch it again")
            yield value
    if count != entries:
        raise SourceError(f"{where} is damaged: it has {counted(count, 'key')}, not {entries:,}: fetch it again")


def _newest(content: Bytes, where: str) -> tuple[int, int, int]:
    """The page size, the root's page number and the number of keys, from the newer of the two headers."""
    found: list[tuple[int, int, int, int]] = []
    at = 0
    for _ in range(2):
        head = content.read_at(at, 152)
        if len(head) == 152 and struct.unpack_from("<II", head, 16) == (_MAGIC, 1):
            size = struct.unpack_from("<I", head, 40)[0]
            entries, root = struct.unpack_from("<QQ", head, 120)
            change = struct.unpack_from("<Q", head, 144)[0]
            found.append((change, size, root, entries))
            at = at + size if _PAGES[0] <= size <= _PAGES[1] else at
    if not found or len({each[1] for each in found}) > 1 or not _PAGES[0] <= found[0][1] <= _PAGES[1]:
        raise SourceError(f"{where} is not an LMDB of version 0.9, or is damaged: fetch it again")
    return max(found)[1:]


def _node(page: bytes, at: int, where: str) -> tuple[int, int, int, int]:
    if at + 8 > len(page):
        raise SourceError(f"{where} is damaged: a key lies outside its page: fetch it again")
    low, high, flags, key = struct.unpack_from("<HHHH", page, at)
    return low, high, flags, key


def _child(page: bytes, at: int, where: str) -> int:
    low, high, flags, _ = _node(page, at, where)
    return low | high << 16 | flags << 32


def _value(page: bytes, start: int, at: int, where: str) -> _Value:
    """A leaf's value and its offset in the file; the offset is ~number of its first page if it has pages of its own."""
    low, high, flags, key = _node(page, at, where)
    size, data = low | high << 16, at + 8 + key
    if flags & ~_LONG:
        raise SourceError(f"{where} has nested tables, which are not supported: store one image per key")
    if data + (8 if flags & _LONG else size) > len(page):
        raise SourceError(f"{where} is damaged: a value lies outside its page: fetch it again")
    name = page[at + 8 : data]
    if flags & _LONG:
        return _Value(name, ~int(struct.unpack_from("<Q", page, data)[0]), size)
    return _Value(name, start + data, size)
