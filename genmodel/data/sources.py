"""Where raw images come from: the digits, folders, tars, tars of tars, zips. Nothing is unpacked to disk.

    source = open_source("ILSVRC2012_img_train.tar")
    for member in source.scan().members:
        content = source.read(member)

A source may be pickled, and a process forked after `scan` uses what the scan learned.
"""

import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from genmodel.data.archives import Bytes, GzipFile, PlainFile, tar_entries
from genmodel.data.members import MAX_BYTES, Collector, Listing, Member, Reject, is_hidden
from genmodel.errors import SourceError


class Source(ABC):
    """Raw images by class and name."""

    name: str  # short, without the machine's folders: it goes into block.json
    stamp: str = ""  # changes when the source does; a preparation under another stamp is not resumed

    @abstractmethod
    def scan(self) -> Listing:
        """All members in canonical order; SourceError if the source is cut off or damaged."""

    @abstractmethod
    def read(self, member: Member) -> bytes:
        """A member's bytes; Reject if they cannot be had, SourceError if the source has changed since the scan."""


def open_source(location: str) -> Source:
    """The source at `location`: "digits", or the path of a folder, a tar, a tar.gz or a zip."""
    if location == "digits":
        return Digits()
    path = Path(location)
    if not path.exists():
        raise SourceError(f"there is no source at {location}: give a folder, a tar, a tar.gz, a zip, or digits")
    try:
        if path.is_dir():
            return Folder(path)
        if not path.is_file():
            raise SourceError(f"{location} is neither a file nor a folder")
        with path.open("rb") as handle:
            magic = handle.read(4)
    except PermissionError as error:
        raise SourceError(f"not allowed to read {location}: {error.strerror}") from error
    if not magic:
        raise SourceError(f"{location} is empty: fetch it again")
    if magic.startswith(b"PK"):
        return Zip(path)
    return Tar(path, GzipFile(path) if magic.startswith(b"\x1f\x8b") else PlainFile(path))


class Digits(Source):
    """scikit-learn's 1,797 handwritten digits, 8x8, each as the bytes of a grey PGM."""

    name = "digits"

    def __init__(self) -> None:
        try:
            from sklearn.datasets import load_digits
        except ImportError as error:
            raise SourceError("the digits come with scikit-learn: pip install scikit-learn") from error
        digits = load_digits()
        levels: np.ndarray = (digits.images.astype("int64") * 255 + 8) // 16  # 0..16 -> 0..255, rounded
        self._contents: list[bytes] = [b"P5\n8 8\n255\n" + image.astype("uint8").tobytes() for image in levels]
        self._labels = [str(label) for label in digits.target]

    def scan(self) -> Listing:
        labels = enumerate(self._labels)
        return Listing(sorted(Member(label, f"{label}/{i:04d}.pgm", (i,)) for i, label in labels), 0)

    def read(self, member: Member) -> bytes:
        return self._contents[int(member.locator[0])]


class Folder(Source):
    """A folder of class folders, or of images. Links are not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self.name = self._path.name

    def scan(self) -> Listing:
        found = Collector()
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._path / folder) as entries:
                    for entry in entries:
                        path = f"{folder}{entry.name}"
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(path + "/")
                        else:
                            facts = entry.stat(follow_symlinks=False)
                            locator = (path, facts.st_size, facts.st_mtime_ns)
                            found.add(path, locator, facts.st_size, _special(facts.st_mode))
            except OSError as error:
                raise SourceError(f"cannot read {self._path / folder}: {error.strerror}") from error
        return found.listing()

    def read(self, member: Member) -> bytes:
        try:
            return (self._path / str(member.locator[0])).read_bytes()
        except FileNotFoundError as error:
            raise SourceError(f"{self._path} changed while it was read: {member.name} is gone") from error
        except OSError as error:
            raise Reject(f"cannot be read: {error.strerror}") from error


def _special(mode: int) -> str:
    if stat.S_ISLNK(mode):
        return "a link"
    return "" if stat.S_ISREG(mode) else "no plain file"


class Tar(Source):
    """A tar or tar.gz of class folders, or of a tar for each class as ImageNet has them (nXXXXXXXX.tar)."""

    def __init__(self, path: Path, content: Bytes) -> None:
        self._path, self._content = path, content
        self.name, self.stamp = path.name, _stamp(path)

    def scan(self) -> Listing:
        found = Collector()
        for entry in tar_entries(self._content, 0, self._content.length, str(self._path)):
            if entry.special or not entry.name.lower().endswith(".tar") or is_hidden(entry.name):
                found.add(entry.name, (entry.offset, entry.size), entry.size, entry.special)
                continue
            where = f"{entry.name} in {self._path}"
            for inner in tar_entries(self._content, entry.offset, entry.size, where):
                found.add(inner.name, (inner.offset, inner.size), inner.size, inner.special, inside=entry.name[:-4])
        return found.listing()

    def read(self, member: Member) -> bytes:
        offset, size = map(int, member.locator)
        content = self._content.read_at(offset, size)
        if len(content) != size:
            raise SourceError(f"{self._path} changed while it was read: {member.name} is cut off")
        return content


class Zip(Source):
    """A zip of class folders."""

    def __init__(self, path: Path) -> None:
        self._path, self._file = path, PlainFile(path)
        self.name, self.stamp = path.name, _stamp(path)

    def scan(self) -> Listing:
        found = Collector()
        try:
            with zipfile.ZipFile(self._path) as archive:
                entries = archive.infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise SourceError(f"{self._path} is no whole zip ({error}): fetch it again") from error
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
    return _special(mode) if stat.S_IFMT(mode) else ""


def _stamp(path: Path) -> str:
    facts = path.stat()
    return f"{facts.st_size}-{facts.st_mtime_ns}"
