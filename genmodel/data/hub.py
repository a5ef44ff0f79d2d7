"""Parquet files with a column of images, as the Hugging Face hub stores data sets. Read in place, by pyarrow.

The images are a struct of `bytes` and `path`, or plain bytes; the label is a whole number or a name. Whole numbers are
the classes' names: the hub's own need not be unique (ImageNet has two cranes).
"""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genmodel.data.archives import stamp_of
from genmodel.data.members import FLAT_CLASS, Listing, Member, Reject, Source, hostile, listing, too_large
from genmodel.data.webdataset import class_name
from genmodel.errors import SourceError
from genmodel.shown import printable

_IMAGES = "image", "img", "jpg", "png"
_LABELS = "label", "labels", "cls", "class", "fine_label"
_GROUPS = 2  # row groups whose images are kept in memory

Locator = tuple[int, int, int]  # file, row group, row


class Hub(Source):
    """Parquet files. An image's name is CLASS/PATH, or CLASS/FILE-ROW where the path is missing or comes twice.

    A row group is unpacked whole to read one of its images: rows sorted by class are read much faster than shuffled.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self._paths = sorted(paths)
        self.name, self.stamp, self.files = name, stamp_of(self._paths), self._paths
        self._groups: dict[tuple[int, int], Any] = {}  # the images of those read last

    def scan(self) -> Listing:
        rows: list[tuple[Any, str, str, Locator]] = []  # label, path, the name it gets without one, where it is
        for file, path in enumerate(self._paths):
            rows += [(label, inside, name, (file, *at)) for label, inside, name, at in _rows(path)]
        counts = Counter(inside for _, inside, _, _ in rows if inside)
        named = ((label, inside if counts[inside] == 1 else name, at) for label, inside, name, at in rows)
        return listing((_member(*row) for row in named), 0)

    def read(self, member: Member) -> bytes:
        file, group, row = map(int, member.locator)
        if (file, group) not in self._groups:
            if len(self._groups) == _GROUPS:
                self._groups.pop(next(iter(self._groups)))
            self._groups[file, group] = _images(self._paths[file], group)
        content: bytes | None = self._groups[file, group][row].as_py()
        if content is None:
            raise Reject("no image in the row")
        if refused := too_large(len(content)):
            raise Reject(refused)
        return content


def _rows(path: Path) -> Iterator[tuple[Any, str, str, tuple[int, int]]]:
    """Every row's label, path in the table, name after its place, row group and row; the images stay unread."""
    with _reading(path) as table:
        _, inside, label = _columns(table, path)
        columns = [column for column in (inside, label) if column]
        number = 0
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            part = table.read_row_group(group, columns=columns, use_threads=False).flatten() if columns else None
            paths = part[inside].to_pylist() if part and inside else [None] * count
            labels = part[label].to_pylist() if part and label else [FLAT_CLASS] * count
            for row, (path_in_table, name) in enumerate(zip(paths, labels, strict=True)):
                yield name, path_in_table or "", f"{path.stem}-{number:06d}", (group, row)
                number += 1


def _images(path: Path, group: int) -> Any:
    """The bytes of a row group's images, as pyarrow has them."""
    with _reading(path) as table:
        image = _columns(table, path)[0]
        return table.read_row_group(group, columns=[image], use_threads=False).flatten()[image]


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SourceError(f"{path} is read by pyarrow: pip install pyarrow") from error
    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            yield table
    except FileNotFoundError as error:
        raise SourceError(f"{path} is gone: fetch it again") from error
    except (pa.ArrowException, OSError) as error:
        raise SourceError(f"{path} is no whole Parquet file ({_one_line(error)}): fetch it again") from error


def _columns(table: Any, path: Path) -> tuple[str, str, str]:
    """The columns of the images' bytes, of their paths and of their labels, the last two empty where there are none."""
    import pyarrow as pa

    schema = table.schema_arrow
    label = next((name for name in _LABELS if name in schema.names), "")
    for name in [*(name for name in _IMAGES if name in schema.names), *schema.names]:
        kind = schema.field(name).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return f"{name}.bytes", f"{name}.path" if kind.get_field_index("path") >= 0 else "", label
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return name, "", label
    raise SourceError(f"{path} has no column of images (bytes, or a struct with bytes), only {', '.join(schema.names)}")


def _member(label: Any, name: str, at: Locator) -> Member:
    known = class_name(label)
    refused = hostile(name) or ("" if known else "has no label")
    return Member("" if refused else known, printable(name) if refused else f"{known}/{name}", at, refused)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
