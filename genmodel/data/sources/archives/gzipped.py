"""The unpacked bytes of a gzip file, read in place and checked to the last byte, never unpacked to disk."""

import bisect
import operator
import zlib
from pathlib import Path
from typing import Any, NamedTuple

from genmodel.data.sources.archives.content import ENDLESS, Bytes, PlainFile, unpacked_room
from genmodel.errors import SourceError

_CHUNK = 64 << 10


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
