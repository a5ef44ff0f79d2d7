"""Random access to archives: tar and gzip read in place, checked to the last byte, never unpacked to disk.

All reads use `os.pread`, so that processes forked after a scan share its descriptors and what it learned.
"""

import bisect
import operator
import os
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from genmodel.errors import SourceError
from genmodel.output import progress

_CHUNK = 64 << 10
_MAX_HEADER = 1 << 20  # bytes of a tar member's headers and the global ones; more is a bomb
ENDLESS = 1 << 62
_ROOM, _MOST = 1 << 30, 100  # limit on unpacked bytes: _ROOM, or _MOST times the packed size if that is more
_FEW, _BYTES_AN_ENTRY = 1 << 18, 64  # entries that any archive may have; beyond that, bytes required per entry


class Bytes(Protocol):
    """Bytes with random access."""

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on; fewer only at the end."""
        ...

    @property
    def length(self) -> int:
        """An upper bound of the number of bytes."""
        ...


class PlainFile:
    """A file's own bytes. Pickles as its path."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle = -1

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return PlainFile, (self.path,)

    @property
    def length(self) -> int:
        return self.path.stat().st_size

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            if self._handle < 0:
                self._handle = os.open(self.path, os.O_RDONLY)
            return os.pread(self._handle, size, offset)
        except OSError as error:  # told here: above, it would pass for a damaged archive
            raise unreadable(self.path, error) from error

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


def unreadable(path: Path, error: OSError) -> SourceError:
    """What the system says of a file that it cannot read."""
    return SourceError(f"cannot read {path}: {os.strerror(error.errno) if error.errno else error}")


def stored(content: Bytes) -> int:
    """The number of bytes as stored, before unpacking."""
    return int(getattr(content, "stored", content.length))


def unpacked_room(size: int) -> int:
    """How many bytes a packed file of `size` bytes may unpack to: images are already compressed."""
    return max(_ROOM, _MOST * size)


class _Point(NamedTuple):
    offset: int  # in the unpacked bytes
    packed: int  # in the file
    engine: Any  # the inflater as it stood there
    fresh: bool  # whether a gzip member begins there


class GzipFile:
    """The unpacked bytes of a gzip file, with copies of the inflater to restart from, every MiB (rarer in large files).

    The copies are made as reading advances. Pickles as its path.
    """

    def __init__(
        self,
        path: Path | str,
        spacing: int = 1 << 20,
        most: int = 1024,
        content: Bytes | None = None,
        wbits: int = 31,
    ) -> None:
        self.path = path  # or the name of `content`, the packed bytes
        self._file: Bytes = PlainFile(Path(path)) if content is None else content
        self._spacing, self._most, self._wbits = spacing, most, wbits  # -15: raw deflate, as in a zip
        self._room = unpacked_room(self._file.length)
        self._points = [_Point(0, 0, zlib.decompressobj(wbits), True)]
        self._restore(self._points[0])

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        assert isinstance(self.path, Path)
        return GzipFile, (self.path,)

    @property
    def length(self) -> int:
        return ENDLESS

    @property
    def stored(self) -> int:
        return self._file.length

    def read_at(self, offset: int, size: int) -> bytes:
        point = self._points[self.stretch(offset)]
        if offset < self._start or point.offset > self._start + len(self._buffer):
            self._restore(point)
        parts: list[bytes] = []
        while size:
            if offset < self._start + len(self._buffer):
                at = offset - self._start
                part = self._buffer[at : at + size]  # copy no more: it may be a header in a buffer of 64 MiB
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
            elif not self._inflate():
                break
        return b"".join(parts)

    @property
    def packed(self) -> int:
        """How much of the file has been unpacked."""
        return self._packed

    def stretch(self, offset: int) -> int:
        """The number of the stretch that an offset lies in; a stretch is unpacked from its start."""
        return bisect.bisect_right(self._points, offset, key=operator.itemgetter(0)) - 1

    def _restore(self, point: _Point) -> None:
        self._start, self._buffer = point.offset, b""
        self._packed, self._engine, self._fresh = point.packed, point.engine.copy(), point.fresh

    def _inflate(self) -> bool:
        """Take the next bytes into the buffer; False at the end."""
        self._start, self._buffer = self._start + len(self._buffer), b""
        if self._start > self._room:
            raise SourceError(
                f"{self.path} unpacks to more than {self._room:,} bytes, too many for its size: fetch it again"
            )
        while not self._buffer:
            if self._fresh and self._wbits < 0 and self._packed:
                return False
            chunk = self._file.read_at(self._packed, _CHUNK)
            if (
                self._fresh and self._wbits > 0 and not chunk.startswith(b"\x1f")
            ):  # zeros may pad the end of a gzip file
                if chunk.strip(b"\0"):
                    raise SourceError(f"{self.path} has other data after its end: fetch it again")
                self._packed += len(chunk)
                if chunk:
                    continue
                return False
            if not chunk:
                raise SourceError(f"{self.path} is cut off after {self._packed:,} bytes: fetch it again")
            self._take(chunk)
        if self._start + len(self._buffer) >= self._points[-1].offset + self._spacing:
            self._remember()
        return True

    def _take(self, chunk: bytes) -> None:
        try:
            self._buffer = self._engine.decompress(chunk)
        except zlib.error as error:
            raise SourceError(f"{self.path} is damaged near byte {self._packed:,}: fetch it again") from error
        self._packed += len(chunk)
        self._fresh = self._engine.eof
        if self._fresh:
            self._packed -= len(self._engine.unused_data)
            self._engine = zlib.decompressobj(self._wbits)

    def _remember(self) -> None:
        offset = self._start + len(self._buffer)
        self._points.append(_Point(offset, self._packed, self._engine.copy(), self._fresh))
        if len(self._points) > self._most:  # 40 KiB each
            self._points = self._points[::2]
            self._spacing *= 2


def open_bytes(path: Path, points: int = 1024) -> Bytes:
    """The bytes of a file, unpacked if it is a gzip, with at most `points` copies of the inflater kept."""
    with path.open("rb") as handle:
        return GzipFile(path, most=points) if handle.read(2) == b"\x1f\x8b" else PlainFile(path)


def stretch_of(content: Bytes, offset: int) -> int | None:
    """The number of the stretch to unpack to read at `offset`; None if nothing is packed."""
    return content.stretch(offset) if isinstance(content, GzipFile) else None


def stamp_of(paths: Sequence[Path]) -> str:
    """A string that changes when the size or time of one of the files does."""
    facts = [path.stat() for path in paths]
    return " ".join(f"{fact.st_size}-{fact.st_mtime_ns}" for fact in facts)


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
