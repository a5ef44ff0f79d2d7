"""bzip2, xz and Zstandard, which can only be read from their beginning: unpacked once, as far as needed.

The unpacked bytes go into a file without a name, which disappears with the process, however that ends. Processes
forked after a scan read it too.
"""

import bz2
import io
import lzma
import os
import shutil
import tempfile
from array import array
from pathlib import Path
from typing import Any

from genmodel.data.sources.archives.content import ENDLESS, Bytes, unpacked_room, unreadable
from genmodel.errors import SourceError
from genmodel.files import durable
from genmodel.output.progress import say

_PIECE = 1 << 20
_WORTH_TELLING = 64 << 20  # bytes in the file
_XZ_MEMORY = 512 << 20  # bytes for its dictionary; `xz -9` asks for 65 MiB


class Spool:
    """A file without a name in the folder `room`, written piece by piece."""

    def __init__(self, room: Path | None) -> None:
        self.room = room or Path(tempfile.gettempdir())
        self._handle, self.length = -1, 0

    def append(self, piece: bytes) -> int:
        """Write a piece; returns its offset."""
        with durable.storage_errors(self.room / "what is unpacked"):
            if self._handle < 0:
                self.room.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(dir=self.room)
                os.unlink(name)  # noqa: PTH108
                self._handle = handle
            place, self.length = self.length, self.length + len(piece)
            while piece:
                written = os.pwrite(self._handle, piece, self.length - len(piece))
                piece = piece[written:]
        return place

    def read_at(self, place: int, size: int) -> bytes:
        try:
            return os.pread(self._handle, size, place)
        except OSError as error:
            raise unreadable(self.room / "what is unpacked", error) from error

    def __del__(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)


class Spooled:
    """The unpacked bytes of `content`, which is named `where` and compressed with bzip2, xz or zstd."""

    def __init__(self, content: Bytes, packing: str, where: str, spool: Spool) -> None:
        self._content, self._packing, self._where, self._spool = content, packing, where, spool
        self._owner = os.getpid()
        self._begin()

    def _begin(self) -> None:
        self._places = array("q")  # each MiB's offset in the spool
        self._length, self._ended, self._told = 0, False, False
        self._room = unpacked_room(self._content.length)
        self._stream = _opened(self._packing, self._content, self._where)

    @property
    def length(self) -> int:
        return self._length if self._ended else ENDLESS

    @property
    def stored(self) -> int:
        return self._content.length

    def read_at(self, offset: int, size: int) -> bytes:
        if not self._ended and os.getpid() != self._owner:  # a fork cannot share a decompressor
            self._owner, self._spool = os.getpid(), Spool(self._spool.room)
            self._begin()
        while not self._ended and self._length < offset + size:
            self._unpack()
        parts: list[bytes] = []
        end = min(offset + size, self._length)
        while offset < end:
            number, inside = divmod(offset, _PIECE)
            part = self._spool.read_at(self._places[number] + inside, min(end - offset, _PIECE - inside))
            if not part:
                raise SourceError(
                    f"{self._where}: what was unpacked into {self._spool.room} is gone: run the same command again"
                )
            parts.append(part)
            offset += len(part)
        return b"".join(parts)

    def _unpack(self) -> None:
        """Unpack the next MiB."""
        piece = b""
        try:
            while len(piece) < _PIECE and (more := self._stream.read(_PIECE - len(piece))):
                piece += more
        except (lzma.LZMAError, EOFError, OSError, ValueError) as error:
            raise SourceError(
                f"{self._where} is cut off or damaged ({' '.join(str(error).split())[:100]}): fetch it again"
            ) from error
        if piece:
            self._places.append(self._spool.append(piece))
        self._length += len(piece)
        self._ended = len(piece) < _PIECE
        if self._length > self._room:
            raise SourceError(
                f"{self._where} unpacks to more than {self._room:,} bytes, too many for its size: fetch it again"
            )
        if self._length >= _WORTH_TELLING and not self._told:
            self._told, free = True, shutil.disk_usage(self._spool.room).free
            say(f"{self._where}: unpacking {self._packing} into {self._spool.room}, which has {free:,} bytes free")
        if self._ended:
            self._stream = None


class Reader(io.RawIOBase):
    """`Bytes` as a file object."""

    def __init__(self, content: Bytes, length: int | None = None) -> None:
        self._content, self._at = content, 0
        self._length = content.length if length is None else length

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        part = self._content.read_at(self._at, max(0, min(len(view), self._length - self._at)))
        view[: len(part)] = part
        self._at += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._length}[whence]
        if self._at < 0:
            raise OSError("a position before the start")
        return self._at

    def tell(self) -> int:
        return self._at


def _opened(packing: str, content: Bytes, where: str) -> Any:
    reader = io.BufferedReader(Reader(content), 64 << 10)
    if packing == "bzip2":
        return bz2.BZ2File(reader)
    if packing == "xz":
        return _Xz(reader)
    try:
        import pyarrow as pa
    except ImportError as error:
        raise SourceError(
            f"{where} is compressed with Zstandard, which needs pyarrow: pip install pyarrow, or unpack it first "
            "(zstd -d)"
        ) from error
    return pa.CompressedInputStream(pa.PythonFile(reader, "r"), "zstd")


class _Xz:
    """An xz reader with a memory limit, which LZMAFile does not have."""

    def __init__(self, reader: Any) -> None:
        self._reader, self._engine = reader, _engine()

    def read(self, size: int) -> bytes:
        while True:
            if self._engine.eof:
                left = self._engine.unused_data or self._reader.read(64 << 10)
                left = left.lstrip(b"\0")  # between streams there may be zeros
                if not left:
                    if not self._reader.peek(1):
                        return b""
                    continue
                self._engine = _engine()
            else:
                left = self._reader.read(64 << 10) if self._engine.needs_input else b""
                if self._engine.needs_input and not left:
                    raise EOFError("it ends too early")
            found = self._engine.decompress(left, size)
            if found:
                return found


def _engine() -> lzma.LZMADecompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
