"""The entries of a tar, read in place and checked to its last byte."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from genmodel.data.sources.archives.content import Bytes, stored
from genmodel.data.sources.archives.gzipped import GzipFile
from genmodel.errors import SourceError
from genmodel.output import progress

_CHUNK = 64 << 10
_MAX_HEADER = 1 << 20  # bytes of a tar member's headers and the global ones; more is a bomb
_FEW, _BYTES_AN_ENTRY = 1 << 18, 64  # entries that any archive may have; beyond that, bytes required per entry


class Entry(NamedTuple):
    """A member of a tar that is not a folder."""

    name: str
    offset: int  # where its bytes start in the outermost archive
    size: int
    special: str  # why it is not a plain file, or nothing
    link: str = ""  # a link's target
    hard: bool = False  # whether the target is relative to the archive's root; otherwise to the link's folder


def tar_entries(content: Bytes, start: int, length: int, where: str) -> Iterator[Entry]:
    """All entries, except folders, of the tar in `length` bytes from `start` on.

    SourceError, naming `where`, if it is truncated or damaged anywhere: tarfile alone takes a broken header for the
    end and drops what follows.
    """
    window = _Window(content, start, length)
    try:
        tar = tarfile.TarFile(fileobj=window, encoding="utf-8", errors="surrogateescape")  # type: ignore[arg-type]
        before, count = -1, 0
        while (info := tar.next()) is not None:
            if tar.offset <= before or info.size < 0:
                raise tarfile.ReadError("a header of negative size")
            before = tar.offset
            tar.members = []  # type: ignore[attr-defined]  # it would keep a kilobyte for each
            window.asked = sum(map(len, tar.pax_headers.values()))  # the global ones stay
            if not info.isdir():
                count += 1
                if count > max(_FEW, stored(content) // _BYTES_AN_ENTRY):
                    raise SourceError(
                        f"{where} has more than {count - 1:,} members, too many for its size: fetch it again"
                    )
                link = info.linkname if info.issym() or info.islnk() else ""
                yield Entry(info.name, start + info.offset_data, info.size, _special(info), link, info.islnk())
    except (tarfile.TarError, ValueError, OverflowError, RecursionError, EOFError, IndexError) as error:
        raise SourceError(f"{where} is not a valid tar ({error}): fetch it again") from error
    window.seek(tar.offset)
    end = window.take(tarfile.BLOCKSIZE)
    if len(end) < tarfile.BLOCKSIZE or any(end):
        raise SourceError(f"{where} is cut off or damaged at byte {tar.offset:,}: fetch it again")
    while rest := window.take(_MAX_HEADER):
        if rest.count(0) != len(rest):
            raise SourceError(f"{where} continues after its end mark (two tars in one?): pack it again")


def told(entries: Iterator[Entry], content: Bytes, path: Path) -> Iterator[Entry]:
    """The entries of an archive, with a progress bar over its file: ImageNet's takes most of a minute."""
    bar, at = progress.bar(path.stat().st_size, 0, f"list {path.name}", "B"), 0
    try:
        for entry in entries:
            now = content.packed if isinstance(content, GzipFile) else entry.offset
            bar.update(now - at)
            at = now
            yield entry
    finally:
        bar.close()


def _special(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return "a link"
    if info.issparse():
        return "a sparse file"
    return "" if info.isreg() else "not a plain file"


class _Window:
    """A part of an archive, as a file object from which tarfile reads headers."""

    def __init__(self, content: Bytes, start: int, length: int) -> None:
        self._content, self._start, self._length, self._at = content, start, length, 0
        self.asked = 0  # header bytes read for the current member

    def read(self, size: int) -> bytes:
        self.asked += size
        if size < 0:
            raise tarfile.ReadError("a header of negative size")
        if self.asked > _MAX_HEADER:
            raise tarfile.ReadError(f"headers of more than {_MAX_HEADER:,} bytes")
        return self.take(size)

    def take(self, size: int) -> bytes:
        part = self._content.read_at(self._start + self._at, max(0, min(size, self._length - self._at)))
        self._at += len(part)
        return part

    def seek(self, at: int) -> None:
        if at < 0:
            raise tarfile.ReadError("a header of negative size")
        self._at = at

    def tell(self) -> int:
        return self._at
