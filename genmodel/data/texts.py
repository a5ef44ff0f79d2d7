"""A column of strings that grows on disk, where a ledger of a million images would take a gigabyte of memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from genmodel.files import durable

_PIECE = 1 << 20


class Texts:
    """Strings in Parquet's PLAIN encoding, each after its length in 4 bytes; in a file without a name in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._buffer, self._count, self.size = folder, bytearray(), 0, 0
        with durable.storage_errors(folder):
            self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # it goes with the column

    def append(self, text: str) -> None:
        content = text.encode()
        self._buffer += len(content).to_bytes(4, "little") + content
        self._count, self.size = self._count + 1, self.size + 4 + len(content)  # bytes of all strings
        if len(self._buffer) >= _PIECE:
            self._flush()

    def _flush(self) -> None:
        with durable.storage_errors(self._folder):
            self._file.write(self._buffer)
            self._file.flush()
        self._buffer.clear()

    def __len__(self) -> int:
        return self._count

    def pieces(self) -> Iterator[bytes]:
        """All of it, a MiB at a time."""
        self._flush()
        self._file.seek(0)
        while piece := self._file.read(_PIECE):
            yield piece
