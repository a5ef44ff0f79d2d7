"""Class folders packed into tars and zips: plain, compressed once more, or nested. Read in place.

A tar of tars has a tar for each class, as ImageNet's does (n01440764.tar, ...); so may a zip or a folder. The contents
of an archive NAME.zip in a source count as a folder NAME. Archives are left out if there are at least as many images
beside them.
"""

import contextlib
import re
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from genmodel.data.sources.archives.compressed import Reader
from genmodel.data.sources.archives.content import Bytes, stamp_of
from genmodel.data.sources.archives.entries import tar_entries, told
from genmodel.data.sources.archives.kinds import ARCHIVES, HEAD, has_zip_end, kind_of, refusal, told_of
from genmodel.data.sources.archives.links import followed
from genmodel.data.sources.archives.streams import Streams
from genmodel.data.sources.members import (
    MAX_BYTES,
    Collector,
    Found,
    Locator,
    Member,
    Reject,
    Source,
    is_hidden,
    is_image,
)
from genmodel.errors import SourceError

ENDING = re.compile(r"\.(tar|zip|tgz|tbz2?|txz|tzst|tar\.(gz|bz2|xz|zst))$", re.IGNORECASE)
BESIDE = "an archive beside images"  # if there are at least as many images: it is a copy of them, or something else
_DEEPEST = 2  # levels of archives inside the given one
_ENTRIES, _BYTES_AN_ENTRY = 1 << 18, 64  # as for a tar's members
_HEADER = 30  # bytes, before a zip member's name and content
_IS_UTF8 = 0x800  # a zip's flag: the name is in UTF-8, not in code page 437


class Packed(Source):
    """Archives; `files`: each a file's path, or the paths of its parts, with the folder that its members count as in.
    `loose`: other files beside them, by path and name. Whatever must be unpacked goes into the folder `room`.
    """

    def __init__(
        self,
        files: Sequence[tuple[Sequence[Path], str]],
        name: str,
        room: Path | None = None,
        loose: Sequence[tuple[Path, str]] = (),
    ) -> None:
        self._insides, self._loose = [inside for _, inside in files], [name for _, name in loose]
        self._streams = Streams([*(paths for paths, _ in files), *([path] for path, _ in loose)], room)
        self.files = [path for paths, _ in files for path in paths]
        self.name, self.stamp = name, stamp_of(self.files)

    def scan(self) -> Found:
        found = Collector(self.head)
        for number, inside in enumerate(self._insides):
            self._scan(found, number, inside, 0)
        for number, name in enumerate(self._loose, len(self._insides)):
            size = self._streams.open(number).length
            found.add(name, (number, 0, size), size)
        return found.found()

    def _scan(self, found: Collector, number: int, inside: str, depth: int) -> None:
        """Add the contents of the archive in a stream."""
        number = self._streams.unpacked(number)
        content = self._streams.open(number)
        kind = kind_of(content.read_at(0, HEAD))
        if kind == "tar":
            self._scan_tar(found, number, 0, content.length, inside, depth)
        elif kind == "zip" or has_zip_end(content):
            self._scan_zip(found, number, inside, depth)
        elif kind:
            raise SourceError(f"{self._streams.where(number)} is compressed, and its content {told_of(kind)}")
        else:
            self._scan_tar(found, number, 0, content.length, inside, depth)  # an empty tar, or an error

    def _scan_tar(self, found: Collector, number: int, start: int, length: int, inside: str, depth: int) -> None:
        content, where = self._streams.open(number), self._streams.where(number)
        images, archives = 0, list[tuple[str, Callable[[], int]]]()
        entries = followed(lambda: tar_entries(content, start, length, where))
        for entry in told(entries, content, Path(where)) if not depth else entries:
            locator = number, entry.offset, entry.size
            if entry.special or not self._is_archive(entry.name, locator):
                found.add(entry.name, locator, entry.size, entry.special, inside)
                images += is_image(entry.name) and not entry.special
            else:
                add = partial(self._streams.add, number, entry.offset, entry.size, "", f"{entry.name} in {where}")
                archives.append((entry.name, add))
        self._scan_inner(found, archives, images, inside, depth)

    def _scan_zip(self, found: Collector, number: int, inside: str, depth: int) -> None:
        images, archives = 0, list[tuple[str, Callable[[], int]]]()
        for entry in zip_entries(self._streams.open(number), self._streams.where(number)):
            locator = number, entry.header_offset, entry.compress_size, entry.file_size, entry.CRC, entry.compress_type
            special, name = _special_in_zip(entry), zip_name(entry)
            if special or not self._is_archive(name, locator):
                found.add(name, locator, entry.file_size, special, inside)
                images += is_image(name) and not special
            else:
                archives.append((name, partial(zip_stream, self._streams, number, entry)))
        self._scan_inner(found, archives, images, inside, depth)

    def _scan_inner(
        self, found: Collector, archives: list[tuple[str, Callable[[], int]]], images: int, inside: str, depth: int
    ) -> None:
        """Add the contents of nested archives, by name and stream, unless the outer one's own images are meant."""
        for name, stream in archives:
            if depth == _DEEPEST:
                found.ignore(_join(inside, name), f"an archive inside more than {_DEEPEST} others")
            elif len(archives) <= images:
                found.ignore(_join(inside, name), BESIDE)
            else:
                self._scan(found, stream(), _join(inside, ENDING.sub("", name)), depth + 1)

    def _is_archive(self, name: str, locator: Locator) -> bool:
        if not ENDING.search(name) or is_hidden(name):
            return False
        return kind_of(self._head(locator, HEAD)) in ("", *ARCHIVES)  # "": a damaged one, which is reported

    def head(self, locator: Locator) -> bytes:
        return self._head(locator, 32)

    def _head(self, locator: Locator, size: int) -> bytes:
        content, start = self._streams.open(int(locator[0])), int(locator[1])
        if len(locator) == 3:
            return content.read_at(start, min(size, int(locator[2])))
        packed, method = int(locator[2]), int(locator[5])
        try:
            part = content.read_at(start + _header(content, start), min(packed, 2 * size))
            if method == zipfile.ZIP_STORED:
                return part[:size]
            return zlib.decompressobj(-15).decompress(part, size) if method == zipfile.ZIP_DEFLATED else b""
        except (Reject, zlib.error):
            return b""

    def unit(self, member: Member) -> object:
        number, offset = map(int, member.locator[:2])
        return self._streams.stretch(number, offset)

    def read(self, member: Member) -> bytes:
        number, *place = map(int, member.locator)
        content = self._streams.open(number)
        if len(place) > 2:
            return _read_zipped(content, *place)
        return read_whole(content, self._streams.where(number), member, *place)


def _join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def read_whole(content: Bytes, where: object, member: Member, offset: int, size: int) -> bytes:
    """The `size` bytes of a member of the archive `where`; SourceError if there are fewer by now."""
    found = content.read_at(offset, size)
    if len(found) != size:
        raise SourceError(f"{where} changed while it was read: {member.name} is cut off")
    return found


def zip_entries(content: Bytes, where: str) -> Iterator[zipfile.ZipInfo]:
    """All entries of a zip except folders; SourceError, naming `where`, if it is truncated or damaged."""
    reader = Reader(content)
    try:
        with zipfile.ZipFile(reader) as archive:
            entries = archive.infolist()
            parts = any(entry.volume for entry in entries)
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError) as error:
        raise SourceError(f"{where} is not a valid zip ({error}): fetch it again") from error
    if parts:
        raise refusal("split zip", where)
    if len(entries) > max(_ENTRIES, content.length // _BYTES_AN_ENTRY):
        raise SourceError(f"{where} has {len(entries):,} members, too many for its size: fetch it again")
    return (entry for entry in entries if not zip_name(entry).endswith("/"))


def zip_stream(streams: Streams, number: int, entry: zipfile.ZipInfo) -> int:
    """The stream number of a member, stored or deflated, of the zip in stream `number`."""
    name = f"{entry.filename} in {streams.where(number)}"
    try:
        start = entry.header_offset + _header(streams.open(number), entry.header_offset)
    except Reject as error:
        raise SourceError(f"{name} is {error}: fetch it again") from error
    if entry.compress_type == zipfile.ZIP_STORED:
        return streams.add(number, start, entry.compress_size, "", name)
    packed = streams.add(number, start, entry.compress_size, "deflate", name)
    return streams.add(packed, 0, entry.file_size, "", name)


def _header(content: Bytes, start: int) -> int:
    """The length of the header at `start`; Reject if there is none."""
    header = content.read_at(start, _HEADER)
    if header[:4] != b"PK\3\4" or len(header) != _HEADER:
        raise Reject("damaged in the zip")
    return _HEADER + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")


def _read_zipped(content: Bytes, start: int, packed_size: int, size: int, checksum: int, method: int) -> bytes:
    """The bytes straight from the file: zipfile's own handle cannot be shared between processes."""
    found = content.read_at(start + _header(content, start), min(packed_size, MAX_BYTES))
    if method == zipfile.ZIP_DEFLATED:
        try:
            found = zlib.decompressobj(-15).decompress(found, size + 1)
        except zlib.error as error:
            raise Reject("damaged in the zip") from error
    if len(found) != size or zlib.crc32(found) != checksum:
        raise Reject("damaged in the zip")
    return found


def zip_name(entry: zipfile.ZipInfo) -> str:
    r"""An entry's name as it was meant: UTF-8 where the flag for it is missing (macOS), and a/b for a\b (.NET)."""
    name = entry.filename
    if not entry.flag_bits & _IS_UTF8:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode()
    return name if "/" in name else name.replace("\\", "/")


def _special_in_zip(entry: zipfile.ZipInfo) -> str:
    mode = entry.external_attr >> 16
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed with an unsupported method ({entry.compress_type})"
    return special_mode(mode) if stat.S_IFMT(mode) else ""


def special_mode(mode: int) -> str:
    """Why a file of this mode (as in os.stat) is refused, or nothing."""
    if stat.S_ISLNK(mode):
        return "a link"
    return "" if stat.S_ISREG(mode) else "not a plain file"
