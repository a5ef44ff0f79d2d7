"""numpy's arrays of images, .npz or .npy: uint8 [N, H, W], [N, H, W, C] or [N, C, H, W], with labels [N] beside them.

Keys may name a split (x_train, y_train, x_test; val_images, val_labels). Rows that hold the planes of a square
image, as in ImageNet at 32 px, work too. Nothing is unpickled. An image is read as a PGM or PPM.
"""

import io
import math
import re
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genmodel.data.sources.archives.content import Bytes, stamp_of, stored
from genmodel.data.sources.archives.packed import zip_entries, zip_stream
from genmodel.data.sources.archives.streams import Streams
from genmodel.data.sources.datasets.arrays import pnm
from genmodel.data.sources.meaning.labels import class_name
from genmodel.data.sources.meaning.splits import canonical
from genmodel.data.sources.members import FLAT_CLASS, Collector, Found, Member, Source
from genmodel.errors import SourceError

_IMAGES = "images", "image", "imgs", "img", "x", "data", "samples", "pixels", "arr 0"  # the first is preferred
_LABELS = "labels", "label", "y", "targets", "target", "classes", "class", "arr 1"
_HEADER = 10_000  # bytes
_LABEL_BYTES = 256 << 20
_ITEMS, _BYTES_AN_ITEM = 1 << 18, 16  # images that any file may have; beyond that, bytes required per image
_LARGEST_SIDE = 4096
_PIECE = 1 << 20


class _Array(NamedTuple):
    key: str
    role: str  # the key without the name of a split: images, x, arr 0
    split: str
    stream: int
    offset: int  # of the values
    shape: tuple[int, ...]
    kind: np.dtype[Any]


class _Images(NamedTuple):
    stream: int
    offset: int
    height: int
    width: int
    channels: int
    planar: bool


def zip_begins_with(head: bytes, ending: str) -> bool:
    """Whether the name of a zip's first member has this ending, by the zip's first bytes."""
    return head[30 : 30 + int.from_bytes(head[26:28], "little")].endswith(ending.encode())


class Npz(Source):
    """Arrays in stream 0, whose files are `files`."""

    def __init__(self, streams: Streams, name: str, files: Sequence[Path]) -> None:
        self._streams, self._images = streams, list[_Images]()
        self.name, self.files, self.stamp = name, files, stamp_of(files)

    def scan(self) -> Found:
        found = Collector()
        arrays = self._arrays()
        images = [each for each in arrays if _form(each)]
        if not images:
            told = ", ".join(f"{each.key} ({each.kind}{list(each.shape)})" for each in arrays[:5]) or "nothing"
            raise SourceError(
                f"{self.name} has no images, uint8 [N, H, W] or [N, H, W, C], only {told}: save them as uint8"
            )
        self._images = []
        splits = sorted({each.split for each in images})
        used = set()
        for split in splits:
            those = sorted((each for each in images if each.split == split), key=_rank)
            chosen = those[0]
            labels = next(iter(sorted((a for a in arrays if _fits(a, chosen)), key=_label_rank)), None)
            used |= {chosen.key, labels.key if labels else chosen.key}
            self._add(found, chosen, labels, split if len(splits) > 1 else "")
        for each in arrays:
            if each.key not in used:
                found.ignore(each.key, "an array beside the images and their labels")
        return found.found()

    def _add(self, found: Collector, array: _Array, labels: _Array | None, split: str) -> None:
        height, width, channels, planar = _form(array) or (0, 0, 0, False)
        number, size = len(self._images), height * width * channels
        self._images.append(_Images(array.stream, array.offset, height, width, channels, planar))
        classes = self._classes(labels) if labels else [FLAT_CLASS] * array.shape[0]
        if labels:
            found.ignore(labels.key, "labels of images")
        for i, label in enumerate(classes):
            path = f"{array.key}/{i:06d}.p{'g' if channels == 1 else 'p'}m"
            found.add(path, (number, i), size, "has no label" if label is None else "", label=label, split=split)

    def _classes(self, array: _Array) -> list[str | None]:
        size = array.shape[0] * array.kind.itemsize
        if size > _LABEL_BYTES:
            raise SourceError(f"{self.name}: {array.key} has {size:,} bytes, too many for labels")
        values = np.frombuffer(self._streams.open(array.stream).read_at(array.offset, size), array.kind)
        if array.kind.kind == "S":
            return [class_name(value.decode("utf-8", "replace")) for value in values.tolist()]
        return [class_name(value) for value in values.tolist()]

    def _arrays(self) -> list[_Array]:
        content, where = self._streams.open(0), self._streams.where(0)
        if content.read_at(0, 6) == b"\x93NUMPY":
            return [_array(content, 0, "images", where)]
        arrays = []
        for entry in zip_entries(content, where):
            if entry.filename.endswith(".npy"):
                if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                    raise SourceError(
                        f"{where}: {entry.filename} is encrypted or packed with an unsupported method: save it again"
                    )
                stream = zip_stream(self._streams, 0, entry)
                part = self._streams.open(stream)
                _check(part, entry, where)
                arrays.append(_array(part, stream, entry.filename[:-4], where))
        return arrays

    def unit(self, member: Member) -> object:
        images, i = self._images[int(member.locator[0])], int(member.locator[1])
        return self._streams.stretch(images.stream, images.offset + i * images.height * images.width * images.channels)

    def read(self, member: Member) -> bytes:
        stream, offset, height, width, channels, planar = self._images[int(member.locator[0])]
        size = height * width * channels
        levels = self._streams.open(stream).read_at(offset + int(member.locator[1]) * size, size)
        if len(levels) != size:
            raise SourceError(f"{self._streams.where(0)} changed while it was read: {member.name} is cut off")
        return pnm(levels, width, height, channels, planar)


def _check(content: Bytes, entry: zipfile.ZipInfo, where: str) -> None:
    """SourceError if a member's bytes do not match its checksum: single images have none here."""
    checksum = at = 0
    while at < entry.file_size and (piece := content.read_at(at, _PIECE)):
        checksum, at = zlib.crc32(piece, checksum), at + len(piece)
    if at != entry.file_size or checksum != entry.CRC:
        raise SourceError(f"{where}: {entry.filename} is damaged: fetch it again")


def _array(content: Bytes, stream: int, key: str, where: str) -> _Array:
    """The array in a .npy."""
    head = io.BytesIO(content.read_at(0, _HEADER + 12))
    try:
        version = np.lib.format.read_magic(head)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, kind = read(head, max_header_size=_HEADER)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        raise SourceError(f"{where}: {key} is not a valid numpy array: fetch it again") from error
    size = math.prod(shape) * kind.itemsize
    if kind.hasobject:
        raise SourceError(
            f"{where}: {key} is an array of Python objects (a pickle), which is not read: save plain arrays"
        )
    if min(shape, default=1) < 0 or content.length != head.tell() + size:
        raise SourceError(
            f"{where}: {key} has {content.length:,} bytes, not those of {list(shape)} {kind}: fetch it again"
        )
    if shape and shape[0] > max(_ITEMS, stored(content) // _BYTES_AN_ITEM):
        raise SourceError(f"{where}: {key} claims {shape[0]:,} items, too many for its size: fetch it again")
    split, role = _parts(key)
    if fortran and len(shape) > 1:
        kind = np.dtype("V1")  # column-major: not read here
    return _Array(key, role, split, stream, head.tell(), shape, kind)


def _parts(key: str) -> tuple[str, str]:
    """The split in a key, or empty, and the rest of the key: x_train is train, x."""
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", key.rpartition("/")[2])
    tokens = re.split(r"[\W_]+", words.lower())
    split = next((canonical(token) for token in tokens if canonical(token)), "")
    rest = [token for token in tokens if token and not canonical(token)]
    return split, " ".join(rest)


def _form(array: _Array) -> tuple[int, int, int, bool] | None:
    """Height, width, channels, and whether they are planes, if an array holds images."""
    if array.kind != np.uint8 or not array.shape or not array.shape[0]:
        return None
    form: tuple[int, int, int, bool] | None = None
    match array.shape[1:]:
        case (height, width):
            form = height, width, 1, False
        case (height, width, (1 | 3) as channels):
            form = height, width, channels, False
        case ((1 | 3) as channels, height, width):
            form = height, width, channels, True
        case (size,) if array.role in _IMAGES:
            for channels in (1, 3):
                side = math.isqrt(size // channels)
                if side > 1 and channels * side * side == size:
                    form = side, side, channels, True
    return form if form and 0 < min(form[:2]) <= max(form[:2]) <= _LARGEST_SIDE else None


def _rank(array: _Array) -> tuple[int, str]:
    return (_IMAGES.index(array.role) if array.role in _IMAGES else len(_IMAGES), array.key)


def _label_rank(array: _Array) -> int:
    return _LABELS.index(array.role)


def _fits(array: _Array, images: _Array) -> bool:
    """Whether an array holds the labels of these images."""
    same = array.split == images.split and array.shape in ((images.shape[0],), (images.shape[0], 1))
    return same and array.role in _LABELS and array.kind.kind in "iuUS" and array.key != images.key
