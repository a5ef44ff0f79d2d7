"""CIFAR's batches, as its authors publish them: pickles of arrays, or bytes; in their tar.gz, unpacked, or one by one.

https://www.cs.toronto.edu/~kriz/cifar.html; ImageNet at 32 and 64 px comes in the same pickles. Nothing is unpickled
(pickles.py). An image is 3 planes of bytes, read as a PPM.
"""

import math
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genmodel.data.sources.archives.content import Bytes, stamp_of
from genmodel.data.sources.archives.entries import tar_entries
from genmodel.data.sources.archives.kinds import refusal
from genmodel.data.sources.archives.packed import ENDING
from genmodel.data.sources.archives.streams import Streams
from genmodel.data.sources.datasets.arrays import pnm
from genmodel.data.sources.datasets.pickles import Array, Blob, read_pickle
from genmodel.data.sources.meaning.labels import class_name
from genmodel.data.sources.members import Collector, Found, Member, Source
from genmodel.errors import SourceError
from genmodel.output.counting import counted

_BINARY = re.compile(r"(data_batch_\d+|test_batch|train|test)\.bin")
_LABELS = "labels", "fine_labels"
_NAMES = "label_names", "fine_label_names"
_NAME_FILES = "batches.meta.txt", "fine_label_names.txt"
_SIDE = 32  # of the images in .bin files
_MOST = 1 << 16  # bytes of a file of names
_LARGEST_SIDE = 4096


class _File(NamedTuple):
    name: str
    stream: int
    start: int
    length: int


class _Batch(NamedTuple):
    """Images one after the other: each is `skip` bytes, then three planes."""

    file: _File
    offset: int
    side: int
    skip: int
    labels: list[int]


def is_batch(name: str, head: bytes = b"") -> bool:
    """Whether a file is a batch or a file of class names, by its first bytes; a .bin by its name."""
    if _BINARY.fullmatch(posixpath.basename(name)):
        return True
    return bool(re.match(rb"\x80[\2-\5](\x95.{8})?\}", head, re.DOTALL))


def batch_files(folder: Path) -> list[Path]:
    """All files in a folder, or in its only subfolder, if they include batches and no folders or archives."""
    inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
    if len(inside) == 1 and inside[0].is_dir():
        inside = list(inside[0].iterdir())
    if not all(path.is_file() for path in inside) or any(ENDING.search(path.name) for path in inside):
        return []
    return sorted(inside) if any(is_batch(path.name, _head(path)) for path in inside) else []


def _head(path: Path) -> bytes:
    with path.open("rb") as handle:
        return handle.read(16)


class Cifar(Source):
    """Batches, each a (name, stream, start, length); `files` are the streams' files."""

    def __init__(
        self, streams: Streams, batches: Sequence[tuple[str, int, int, int]], name: str, files: Sequence[Path]
    ) -> None:
        self._streams, self._given = streams, [_File(*batch) for batch in batches]
        self.name, self.files, self.stamp = name, files, stamp_of(files)

    @classmethod
    def of_tar(cls, streams: Streams, name: str, files: Sequence[Path]) -> "Cifar":
        """The batches in a tar, which is stream 0."""
        return cls(streams, [], name, files)

    @classmethod
    def of_files(cls, paths: Sequence[Path], name: str, room: Path | None) -> "Cifar":
        streams = Streams([[path] for path in paths], room)
        batches = [(path.name, i, 0, streams.open(i).length) for i, path in enumerate(paths)]
        return cls(streams, batches, name, paths)

    def _files(self) -> list[_File]:
        if self._given:
            return self._given
        stream = self._streams.unpacked(0)
        content = self._streams.open(stream)
        entries = tar_entries(content, 0, content.length, self._streams.where(0))
        return [_File(posixpath.basename(each.name), stream, each.offset, each.size) for each in entries]

    def scan(self) -> Found:
        found = Collector()
        batches: list[_Batch] = []
        names: list[str] = []
        for file in self._files():
            told = self._read(file)
            if isinstance(told, _Batch):
                batches.append(told)
            elif told:
                names = told
                found.ignore(file.name, "the names of the classes")
            else:
                found.ignore(file.name, "not a batch of images")
        if not batches:
            raise SourceError(f"{self.name} holds no CIFAR batches (data and labels): fetch it again")
        splits = {_split(batch.file.name) for batch in batches}
        for batch in batches:
            split = _split(batch.file.name) if len(splits) > 1 else ""
            size = 3 * batch.side**2
            for i, label in enumerate(batch.labels):
                place = batch.offset + i * (size + batch.skip) + batch.skip
                known = class_name(names[label] if 0 <= label < len(names) else label)
                path = f"{batch.file.name.removesuffix('.bin')}/{i:06d}.ppm"
                special = "has no label" if known is None else ""
                found.add(path, (batch.file.stream, place, batch.side), size, special, label=known, split=split)
        return found.found()

    def _read(self, file: _File) -> _Batch | list[str]:
        """A batch, or class names; no names if it is neither."""
        content = self._streams.open(file.stream)
        where = f"{file.name} in {self.name}" if file.name != self.name else self._streams.where(0)
        if _BINARY.fullmatch(file.name):
            return _binary(content, file, where)
        if file.name in _NAME_FILES and file.length <= _MOST:
            return content.read_at(file.start, file.length).decode("latin-1").split("\n")
        if not is_batch(file.name, content.read_at(file.start, 16)):
            return []
        told = read_pickle(content, file.start, file.length, where)
        names = next((told[key] for key in _NAMES if isinstance(told, dict) and key in told), None)
        if isinstance(names, list) and all(isinstance(each, bytes | str) for each in names):
            return [each.decode("latin-1") if isinstance(each, bytes) else each for each in names]
        return _pickled(told, content, file, where)

    def unit(self, member: Member) -> object:
        stream, offset, _ = map(int, member.locator)
        return self._streams.stretch(stream, offset)

    def read(self, member: Member) -> bytes:
        stream, offset, side = map(int, member.locator)
        levels = self._streams.open(stream).read_at(offset, 3 * side**2)
        if len(levels) != 3 * side**2:
            raise SourceError(f"{self._streams.where(0)} changed while it was read: {member.name} is cut off")
        return pnm(levels, side, side, 3, planar=True)


def _split(name: str) -> str:
    for word in ("test", "val", "train"):
        if word in name:
            return word
    return "train"


def _binary(content: Bytes, file: _File, where: str) -> _Batch:
    """A .bin: each image comes after its label, or in CIFAR-100 after a coarse and a fine one."""
    skip = 2 if file.name in ("train.bin", "test.bin") else 1
    size = skip + 3 * _SIDE**2
    if not file.length or file.length % size:
        raise SourceError(
            f"{where} is cut off: its {file.length:,} bytes are not a multiple of {size:,}: fetch it again"
        )
    if len(content.read_at(file.start + file.length - 1, 1)) != 1:
        raise SourceError(f"{where} is cut off: fetch it again")
    labels = [content.read_at(file.start + at + skip - 1, 1)[0] for at in range(0, file.length, size)]
    return _Batch(file, file.start, _SIDE, skip, labels)


def _pickled(told: Any, content: Bytes, file: _File, where: str) -> _Batch:
    told = told if isinstance(told, dict) else {}
    data, labels = told.get("data"), next((told[key] for key in _LABELS if key in told), None)
    if not isinstance(data, Array) or labels is None:
        raise refusal("pickle", where)
    count, size = data.shape if len(data.shape) == 2 else (0, 0)
    side = math.isqrt(max(0, size) // 3)
    if data.kind not in ("|u1", "u1") or size != 3 * side**2 or not 0 < side <= _LARGEST_SIDE:
        shape = " x ".join(map(str, data.shape))
        raise SourceError(f"{where} holds {shape} values of {data.kind}, not bytes of square images in three planes")
    if not isinstance(data.data, Blob) or data.data.size != count * size:
        raise SourceError(
            f"{where} is damaged: its data are not {counted(count, 'image')} of {side} px: fetch it again"
        )
    numbers = _numbers(labels, content)
    if len(numbers) != count:
        raise SourceError(f"{where} has {counted(len(numbers), 'label')} for {counted(count, 'image')}: fetch it again")
    return _Batch(file, data.data.offset, side, 0, numbers)


def _numbers(labels: Any, content: Bytes) -> list[int]:
    if isinstance(labels, Array):
        data = labels.data if isinstance(labels.data, bytes) else content.read_at(*labels.data)
        try:
            labels = np.frombuffer(data, labels.kind).tolist()
        except (ValueError, TypeError):
            return []
    plain = isinstance(labels, list) and all(type(each) is int for each in labels)
    return labels if plain else []
