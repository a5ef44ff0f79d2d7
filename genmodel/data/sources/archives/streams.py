"""The byte streams of a source, by number: its files, and what is compressed or contained in them.

Only a few are open at a time. They pickle as what they are made from; a process that receives the same ones again keeps
what it has unpacked.
"""

import bisect
import itertools
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from genmodel.data.sources.archives.compressed import Spool, Spooled
from genmodel.data.sources.archives.content import ENDLESS, Bytes, PlainFile, stamp_of, stored
from genmodel.data.sources.archives.gzipped import GzipFile
from genmodel.data.sources.archives.kinds import HEAD, PACKINGS, kind_of
from genmodel.errors import SourceError

_OPEN = 64
_POINTS, _FEW_POINTS = 1024, 16  # inflater copies of 40 KB each: in total for files, and per nested stream
_PACKED = "deflate", *PACKINGS


class Part:
    """`length` bytes of another stream, from `start` on."""

    def __init__(self, content: Bytes, start: int, length: int) -> None:
        self._content, self._start, self.length = content, start, length

    @property
    def stored(self) -> int:
        return min(self.length, stored(self._content))

    def read_at(self, offset: int, size: int) -> bytes:
        return self._content.read_at(self._start + offset, max(0, min(size, self.length - offset)))


class Joined:
    """The bytes of several files, concatenated. Pickles as their paths."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [PlainFile(path) for path in paths]
        self._starts = [0, *itertools.accumulate(file.length for file in self._files)]

    def __reduce__(self) -> tuple[type, tuple[list[Path]]]:
        return Joined, ([file.path for file in self._files],)

    @property
    def length(self) -> int:
        return self._starts[-1]

    def read_at(self, offset: int, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0 and offset < self.length:
            number = bisect.bisect_right(self._starts, offset) - 1
            part = self._files[number].read_at(offset - self._starts[number], size)
            if not part:
                break
            parts.append(part)
            offset, size = offset + len(part), size - len(part)
        return b"".join(parts)


class _Stream(NamedTuple):
    where: str  # its name in errors
    paths: tuple[Path, ...] = ()  # its files, concatenated; empty: it lies in another stream
    parent: int = -1
    start: int = 0
    length: int = 0
    packing: str = ""


class Streams:
    """Streams by number, those of `files` first: each a file's path, or the paths of its parts."""

    def __init__(self, files: Sequence[Sequence[Path]], room: Path | None = None) -> None:
        self._streams = [_Stream(str(paths[0]), tuple(paths)) for paths in files]
        self._numbers = {stream: number for number, stream in enumerate(self._streams)}
        self._room, self._spool = room, Spool(room)
        self._unpacked: dict[int, int] = {}
        self._opened: dict[int, Bytes] = {}
        self._spooled: dict[int, Bytes] = {}  # kept: reopened, they would be unpacked again

    def __reduce__(self) -> Any:
        stamp = stamp_of([path for stream in self._streams for path in stream.paths])
        return _again, (tuple(self._streams), self._room, stamp)

    def add(self, parent: int, start: int, length: int, packing: str, where: str) -> int:
        """Add what lies in a stream; returns its number."""
        stream = _Stream(where, (), parent, start, length, packing)
        number = self._numbers.setdefault(stream, len(self._streams))
        if number == len(self._streams):
            self._streams.append(stream)
        return number

    def where(self, number: int) -> str:
        """A stream's name in errors."""
        return self._streams[number].where

    def unpacked(self, number: int) -> int:
        """The number of the stream itself, or of what is compressed in it with gzip, bzip2, xz or zstd."""
        if number not in self._unpacked:
            content = self.open(number)
            kind = kind_of(content.read_at(0, HEAD))
            is_packed = kind in PACKINGS
            self._unpacked[number] = (
                self.add(number, 0, content.length, kind, self.where(number)) if is_packed else number
            )
        return self._unpacked[number]

    def open(self, number: int) -> Bytes:
        """The bytes of a stream."""
        found = self._spooled.get(number) or self._opened.get(number)
        if found is None:
            stream = self._streams[number]
            try:
                found = self._open(stream)
            except FileNotFoundError as error:
                raise SourceError(f"{stream.where} is gone: fetch it again") from error
            if isinstance(found, Spooled):
                self._spooled[number] = found
            else:
                if len(self._opened) >= _OPEN:
                    self._opened.pop(next(iter(self._opened)))
                self._opened[number] = found
        return found

    def _open(self, stream: _Stream) -> Bytes:
        if stream.paths:
            for path in stream.paths:
                path.stat()
            return PlainFile(stream.paths[0]) if len(stream.paths) == 1 else Joined(stream.paths)
        content = self.open(stream.parent)
        if stream.start or stream.length < min(content.length, ENDLESS):
            content = Part(content, stream.start, stream.length)
        if stream.packing in ("gzip", "deflate"):
            wbits = 31 if stream.packing == "gzip" else -15
            files = sum(bool(each.paths) for each in self._streams)
            most = max(_FEW_POINTS, _POINTS // files) if self._streams[stream.parent].paths else _FEW_POINTS
            return GzipFile(stream.where, most=most, content=content, wbits=wbits)
        return Spooled(content, stream.packing, stream.where, self._spool) if stream.packing else content

    def stretch(self, number: int, offset: int) -> object:
        """What must be unpacked to read at an offset of a stream; None where nothing is packed."""
        at = number
        while at >= 0 and self._streams[at].packing not in _PACKED:
            offset += self._streams[at].start
            at = self._streams[at].parent
        if at < 0:
            return None
        content = self.open(at)
        return (at, content.stretch(offset)) if isinstance(content, GzipFile) else None


_kept = threading.local()  # per thread: streams have one reader


def _again(streams: tuple[_Stream, ...], room: Path | None, stamp: str) -> Streams:
    key = streams, room, stamp
    if getattr(_kept, "key", None) != key:
        made = Streams([], room)
        made._streams, made._numbers = list(streams), {stream: number for number, stream in enumerate(streams)}
        _kept.key, _kept.streams = key, made
    found: Streams = _kept.streams
    return found
