"""Bytes with random access, as an archive or a list of images is read: a file's own, for a start.

All reads use `os.pread`, so that processes forked after a scan share its descriptors and what it learned.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from genmodel.data.sources.stalls import reading
from genmodel.errors import SourceError

ENDLESS = 1 << 62
_ROOM, _MOST = 1 << 30, 100  # limit on unpacked bytes: _ROOM, or _MOST times the packed size if that is more


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
        with reading(self.path):
            return self.path.stat().st_size

    def read_at(self, offset: int, size: int) -> bytes:
        try:
            with reading(self.path):
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


def stamp_of(paths: Sequence[Path]) -> str:
    """A string that changes when the size or time of one of the files does."""
    facts = [path.stat() for path in paths]
    return " ".join(f"{fact.st_size}-{fact.st_mtime_ns}" for fact in facts)
