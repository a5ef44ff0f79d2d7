"""Class folders packed into one file: a tar, a tar.gz, a tar of tars, a zip. Read in place."""

import stat
import zipfile
import zlib
from pathlib import Path

from genmodel.data.sources.archives import Bytes, PlainFile, open_bytes, stamp_of, stretch_of, tar_entries, told
from genmodel.data.sources.members import MAX_BYTES, Collector, Listing, Member, Reject, Source, is_hidden
from genmodel.errors import SourceError


class Tar(Source):
    """A tar or tar.gz of class folders, or of a tar for each class as ImageNet has them (n01440764.tar, ...)."""

    def __init__(self, path: Path) -> None:
        self._path, self._content = path, open_bytes(path)
        self.name, self.stamp, self.files = path.name, stamp_of([path]), [path]

    def scan(self) -> Listing:
        found = Collector()
        entries = tar_entries(self._content, 0, self._content.length, str(self._path))
        for entry in told(entries, self._content, self._path):
            if entry.special or not entry.name.lower().endswith(".tar") or is_hidden(entry.name):
                found.add(entry.name, (entry.offset, entry.size), entry.size, entry.special)
                continue
            where = f"{entry.name} in {self._path}"
            for inner in tar_entries(self._content, entry.offset, entry.size, where):
                found.add(inner.name, (inner.offset, inner.size), inner.size, inner.special, inside=entry.name[:-4])
        return found.listing()

    def unit(self, member: Member) -> object:
        return stretch_of(self._content, int(member.locator[0]))

    def read(self, member: Member) -> bytes:
        return read_whole(self._content, self._path, member, *map(int, member.locator))


def read_whole(content: Bytes, path: Path, member: Member, offset: int, size: int) -> bytes:
    """The `size` bytes of a member of the archive at `path`; SourceError if there are fewer by now."""
    found = content.read_at(offset, size)
    if len(found) != size:
        raise SourceError(f"{path} changed while it was read: {member.name} is cut off")
    return found


class Zip(Source):
    """A zip of class folders."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, PlainFile(path)
        self.name, self.stamp, self.files = path.name, stamp_of([path]), [path]

    def scan(self) -> Listing:
        found = Collector()
        try:
            with zipfile.ZipFile(self._path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise SourceError(f"{self._path} is not a whole zip ({error}): fetch it again") from error
        for entry in entries:
            if not entry.is_dir():
                locator = (entry.header_offset, entry.compress_size, entry.file_size, entry.CRC, entry.compress_type)
                found.add(entry.filename, locator, entry.file_size, _special_in_zip(entry))
        return found.listing()

    def read(self, member: Member) -> bytes:
        """The bytes straight from the file: zipfile's own handle could not be shared between processes."""
        start, packed_size, size, checksum, method = map(int, member.locator)
        header = self._file.read_at(start, 30)
        if header[:4] != b"PK\3\4" or len(header) != 30:
            raise Reject("damaged in the zip")
        start += 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        content = self._file.read_at(start, min(packed_size, MAX_BYTES))
        if method == zipfile.ZIP_DEFLATED:
            try:
                content = zlib.decompressobj(-15).decompress(content, size + 1)
            except zlib.error as error:
                raise Reject("damaged in the zip") from error
        if len(content) != size or zlib.crc32(content) != checksum:
            raise Reject("damaged in the zip")
        return content


def _special_in_zip(entry: zipfile.ZipInfo) -> str:
    mode = entry.external_attr >> 16
    if entry.flag_bits & 1:
        return "encrypted"
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return f"packed by a method that is not supported ({entry.compress_type})"
    return special_mode(mode) if stat.S_IFMT(mode) else ""


def special_mode(mode: int) -> str:
    """Why a file of this mode (as in os.stat) is refused, or nothing."""
    if stat.S_ISLNK(mode):
        return "a link"
    return "" if stat.S_ISREG(mode) else "not a plain file"
