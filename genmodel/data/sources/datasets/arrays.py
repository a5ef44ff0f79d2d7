"""Sources of small grey images in arrays, each read as the bytes of a PGM: MNIST's IDX files, scikit-learn's digits."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from genmodel.data.sources.archives.content import stamp_of
from genmodel.data.sources.archives.gzipped import open_bytes, stretch_of
from genmodel.data.sources.members import Collector, Found, Member, Source
from genmodel.errors import SourceError
from genmodel.output.counting import counted

_IMAGES, _LABELS = b"\0\0\x08\x03", b"\0\0\x08\x01"  # bytes in three dimensions, bytes in one
_MAX_SIDE = 4096
_ITEMS = 1 << 18  # images that any file may have
_BYTES_AN_ITEM = 16  # required of a file with more images; MNIST's gzip has 165


def pnm(levels: bytes, width: int, height: int, channels: int = 1, planar: bool = False) -> bytes:
    """Pixel bytes, of 1 or 3 channels, as a PGM or PPM file. `planar`: one channel after the other."""
    if planar and channels > 1:
        levels = np.frombuffer(levels, np.uint8).reshape(channels, height, width).transpose(1, 2, 0).tobytes()
    return b"P%d\n%d %d\n255\n" % (5 if channels == 1 else 6, width, height) + levels


class Digits(Source):
    """scikit-learn's 1,797 handwritten digits, 8x8."""

    name = "digits"

    def __init__(self) -> None:
        found = find_spec("sklearn")  # its import takes seconds of CPU, for one file of 57 KB
        path = Path(str(found.origin)).with_name("datasets") / "data" / "digits.csv.gz" if found else None
        if path is None or not path.exists():
            raise SourceError("the digits come with scikit-learn: pip install scikit-learn")
        rows = np.loadtxt(path, np.int64, delimiter=",")  # 64 levels, and the label
        levels = (rows[:, :-1] * 255 + 8) // 16  # 0..16 -> 0..255, rounded
        self._contents: list[bytes] = [pnm(image.astype("uint8").tobytes(), 8, 8) for image in levels]
        self._labels = [str(label) for label in rows[:, -1]]

    def scan(self) -> Found:
        found = Collector()
        for i, label in enumerate(self._labels):
            found.add(f"{i:04d}.pgm", (i,), 0, label=label)
        return found.found()

    def read(self, member: Member) -> bytes:
        return self._contents[int(member.locator[0])]


class Idx(Source):
    """NAME-images-idx3-ubyte with NAME-labels-idx1-ubyte beside it; each may be .gz.

    http://yann.lecun.com/exdb/mnist: big-endian sizes after the magic number, then bytes.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._content = path, open_bytes(path)
        if self._content.read_at(0, 4) == _LABELS:
            name = path.name.replace("labels", "images").replace("idx1", "idx3")
            raise SourceError(f"{path} holds labels, not images: give the file of images, {path.with_name(name)}")
        self._labels = _labels_beside(path)
        self.name, self.files = path.name, [path, self._labels]
        self.stamp = stamp_of(self.files)
        header = self._content.read_at(0, 16)
        if header[:4] != _IMAGES or len(header) != 16:
            raise SourceError(f"{path} holds no images: give the file whose name has images-idx3-ubyte")
        self._count, self._height, self._width = np.frombuffer(header, ">u4", 3, 4).tolist()
        if not 0 < min(self._height, self._width) <= max(self._height, self._width) <= _MAX_SIDE:
            raise SourceError(f"{path} holds images of {self._width} x {self._height} pixels: fetch it again")

    def scan(self) -> Found:
        if self._count > max(_ITEMS, self._path.stat().st_size // _BYTES_AN_ITEM):
            raise SourceError(f"{self._path} claims {self._count:,} images, too many for its size: fetch it again")
        labels_content = open_bytes(self._labels)
        header = labels_content.read_at(0, 8)
        if header != _LABELS + self._count.to_bytes(4, "big"):
            raise SourceError(
                f"{self._labels} does not hold the labels of {self._path.name}'s {counted(self._count, 'image')}: "
                "fetch it again"
            )
        for path, content, end in (
            (self._path, self._content, 16 + self._count * self._area),
            (self._labels, labels_content, 8 + self._count),
        ):
            if len(content.read_at(end - 1, 2)) != 1:
                raise SourceError(
                    f"{path} is cut off or has more than its {counted(self._count, 'item')}: fetch it again"
                )
        labels = labels_content.read_at(8, self._count)
        found = Collector()
        for i, label in enumerate(labels):
            found.add(f"{i:05d}.pgm", (i,), 0, label=f"{label}")
        return found.found()

    @property
    def _area(self) -> int:
        return int(self._height * self._width)

    def unit(self, member: Member) -> object:
        return stretch_of(self._content, 16 + int(member.locator[0]) * self._area)

    def read(self, member: Member) -> bytes:
        levels = self._content.read_at(16 + int(member.locator[0]) * self._area, self._area)
        if len(levels) != self._area:
            raise SourceError(f"{self._path} changed while it was read: {member.name} is cut off")
        return pnm(levels, self._width, self._height)


def _labels_beside(path: Path) -> Path:
    name = path.name.removesuffix(".gz").replace("images", "labels").replace("idx3", "idx1")
    for candidate in (path.with_name(name), path.with_name(name + ".gz")):
        if candidate.is_file() and candidate != path:
            return candidate
    raise SourceError(f"{path} has no labels beside it: put {name} or {name}.gz there")
