"""Parquet files with a column of images, as the Hugging Face hub stores data sets. Read in place, by pyarrow.

The images are a struct of `bytes` and `path`, or plain bytes; the label is a whole number or a name. Whole numbers are
used as class names, because the hub's own names need not be unique (ImageNet has two cranes).
"""

import contextlib
import mmap
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from genmodel.data import parquet
from genmodel.data.sources.archives.content import stamp_of, unreadable
from genmodel.data.sources.datasets.columns import Columns, columns_of
from genmodel.data.sources.meaning.labels import class_name
from genmodel.data.sources.meaning.splits import canonical
from genmodel.data.sources.members import (
    FLAT_CLASS,
    LABEL_FILES,
    MAX_PATH,
    Collector,
    Found,
    Member,
    Reject,
    Source,
    is_hidden,
    too_large,
)
from genmodel.errors import SourceError

_GROUPS = 2  # row groups whose images are kept in memory
_TOGETHER = 256  # rows that one worker reads; workers share a larger row group, and each unpacks all of it
_ROOM = 256 << 20  # bytes that any row group may unpack to
_MOST = 4  # or this many times its file's bytes, if that is more: images are already compressed
_ROWS = 1 << 18  # rows that any file may have
_BYTES_A_ROW = 64  # required of a file with more rows; the smallest PNG has 67
_BY_DICTIONARY = 2, 8  # parquet.thrift: enum Encoding
_BY_PREFIX = 7

Locator = tuple[int, ...]  # file, row group, row; and the index in a list of images


class Hub(Source):
    """Parquet files. An image's name is CLASS/PATH, or CLASS/FILE-ROW if the path is missing or occurs twice.

    A row group is unpacked whole to read one of its images, so they are read in the order of the rows.
    """

    def __init__(self, paths: Sequence[Path], name: str) -> None:
        self._paths = sorted(paths)
        self.name, self.stamp, self.files = name, stamp_of(self._paths), self._paths
        self._groups: dict[tuple[int, int], Any] = {}  # the images of the last ones read

    def scan(self) -> Found:
        rows: list[tuple[str | None, str, str, Locator]] = []  # class, path, the name without a path, location
        found = Collector()
        for file, path in enumerate(self._paths):
            rows += [(label, inside, name, (file, *at)) for label, inside, name, at in _rows(path, found)]
        splits = _splits(self._paths)
        counts = Counter((splits[at[0]], inside or name) for _, inside, name, at in rows)
        for label, inside, name, at in rows:
            special, split = "has no label" if label is None else "", splits[at[0]]
            shown = inside or name
            shown = shown if counts[split, shown] == 1 else name
            found.add(shown, at, 0, special, label=label, split=split)
        return found.found()

    def unit(self, member: Member) -> object:
        file, group, row, *_ = map(int, member.locator)
        return file, group, row // _TOGETHER

    def read(self, member: Member) -> bytes:
        file, group, row, *item = map(int, member.locator)
        if (file, group) not in self._groups:
            if len(self._groups) == _GROUPS:
                self._groups.pop(next(iter(self._groups)))
            self._groups[file, group] = _images(self._paths[file], group)
        images, columns = self._groups[file, group]
        value = images[row].as_py()
        content: bytes | None = columns.content(value, *item) if item else value
        if content is None:
            raise Reject("no image in the row")
        if refused := too_large(len(content)):
            raise Reject(refused)
        return content


def tables_in(folder: Path) -> list[Path]:
    """The Parquet files of a folder laid out as on the hub: data/train-*.parquet, default/train/0000.parquet,
    train/*.parquet, *.parquet. SourceError if there are several configurations."""
    for pattern in ("*.parquet", "data/*.parquet", "*/*.parquet", "*/*/*.parquet"):
        paths = [path for path in sorted(folder.glob(pattern)) if path.is_file() and path.name not in LABEL_FILES]
        paths = [path for path in paths if not is_hidden(path.relative_to(folder).as_posix())]
        configurations = sorted({path.parent.parent.name for path in paths}) if pattern.count("/") == 2 else []
        if len(configurations) > 1:
            chosen = "default" if "default" in configurations else configurations[0]
            raise SourceError(
                f"{folder} has the configurations {', '.join(configurations)}: give one of them, such as "
                f"{folder / chosen}"
            )
        if paths:
            return paths
    return []


def _splits(paths: Sequence[Path]) -> list[str]:
    """The split of each file, train for train-00000-of-00002.parquet or train/0000.parquet, if there are several."""
    splits = [path.name.partition("-")[0] if "-" in path.name else path.stem for path in paths]
    if len({path.parent for path in paths}) > 1:
        splits = [path.parent.name for path in paths]
    return splits if len(set(splits)) > 1 and any(map(canonical, splits)) else [""] * len(paths)


def _rows(path: Path, found: Collector) -> Iterator[tuple[str | None, str, str, tuple[int, ...]]]:
    """Every image's class (see class_name), path in the table, name by position, row group, row; no image is read.

    Unused columns of images, and rows without any, are reported to `found`.
    """
    with _reading(path) as table:
        told = columns_of(table.schema_arrow, path)
        for other in told.others:
            found.ignore(f"{path.name}: {other}", f"a column of images beside {told.image}")
        inside, label = _leaf(table, told, 0) if told.is_list else told.parts[1], told.label
        columns = [column for column in (inside, label) if column]
        number = 0
        counts = [table.metadata.row_group(group).num_rows for group in range(table.num_row_groups)]
        if min(counts, default=0) < 0 or sum(counts) > max(_ROWS, path.stat().st_size // _BYTES_A_ROW):
            raise SourceError(f"{path} claims {sum(counts):,} rows, too many for its size: fetch it again")
        for group, count in enumerate(counts):
            part = _read(table, path, group, columns) if columns else None
            key = told.image if told.is_list else inside
            paths = _values(part[key]) if part and inside else [None] * count
            labels = _values(part[label]) if part and label else [FLAT_CLASS] * count
            for row, (path_in_table, name) in enumerate(zip(paths, labels, strict=True)):
                if told.is_list:
                    if not path_in_table:
                        found.ignore(f"{path.name}: row {number}", "a row without images")
                    for item in range(len(path_in_table or ())):
                        yield class_name(name), "", f"{path.stem}-{number:06d}-{item}", (group, row, item)
                    number += 1
                    continue
                inside_it = (path_in_table or "")[: MAX_PATH + 1]  # a longer one is refused and need not be kept
                yield class_name(name), inside_it, f"{path.stem}-{number:06d}", (group, row)
                number += 1


def _leaf(table: Any, columns: Columns, number: int) -> str:
    """Parquet's name for the column of a list's paths, if it has any, or of its bytes (`number` -1)."""
    names = [name for name in _leaves(table) if name.startswith(f"{columns.image}.")]
    if columns.is_struct:
        wanted = ".path" if number == 0 and columns.has_path else ".bytes"
        names = [name for name in names if name.endswith(wanted)]
    return names[0]


def _leaves(table: Any) -> list[str]:
    return [table.schema.column(place).path for place in range(len(table.schema))]


def _images(path: Path, group: int) -> tuple[Any, Columns]:
    """The bytes of a row group's images, in pyarrow's types."""
    with _reading(path) as table:
        columns = columns_of(table.schema_arrow, path)
        leaf = _leaf(table, columns, -1) if columns.is_list else columns.parts[0]
        return _read(table, path, group, [leaf])[columns.image if columns.is_list else leaf], columns


def _read(table: Any, path: Path, group: int, columns: list[str]) -> Any:
    """A row group's columns; SourceError if they would take more memory than a file of that size justifies."""
    import pyarrow.parquet as pq

    repeating = _repeating(table, path, group, columns)
    if repeating:
        table = pq.ParquetFile(path, metadata=table.metadata, read_dictionary=repeating, pre_buffer=False)
    return table.read_row_group(group, columns=columns, use_threads=False).flatten()


def _repeating(table: Any, path: Path, group: int, columns: Sequence[str]) -> list[str]:
    """The columns of a row group that must stay dictionary-encoded, as stored, or they may be too large.

    This reads the page headers: pyarrow allocates by them, and the footer may say less.
    """
    facts = table.metadata.row_group(group)
    size = path.stat().st_size
    room, unpacked, repeating = max(_ROOM, _MOST * size), 0, []
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for chunk in map(facts.column, range(facts.num_columns)):
            name = chunk.path_in_schema
            if name not in columns:
                continue
            dictionary = by_dictionary = by_prefix = 0
            for page in parquet.pages(content, *_place(chunk), chunk.num_values):
                unpacked += page.unpacked
                dictionary += page.unpacked if page.is_dictionary else 0
                by_dictionary += page.values if page.encoding in _BY_DICTIONARY else 0
                by_prefix += page.values * page.unpacked if page.encoding == _BY_PREFIX else 0
            rows, most = max(facts.num_rows, chunk.num_values), facts.num_rows
            if table.schema.column(_leaves(table).index(name)).max_repetition_level:  # a list's
                most = max(_ROWS, size // _BYTES_A_ROW)
            if max(unpacked, by_prefix) > room or rows > most or chunk.physical_type.startswith("FIXED"):
                raise SourceError(
                    f"{path}: row group {group} may unpack to more than {room:,} bytes ({name}: {unpacked:,} bytes, "
                    f"{rows:,} values): write it again in smaller row groups, or fetch it again"
                )
            if dictionary * by_dictionary > room and chunk.physical_type == "BYTE_ARRAY":
                repeating.append(name)
    return repeating


def _place(chunk: Any) -> tuple[int, int]:
    """Where a column chunk's pages begin and end in the file."""
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset and 0 < chunk.dictionary_page_offset < start:
        start = chunk.dictionary_page_offset
    return start, start + chunk.total_compressed_size


def _values(column: Any) -> list[Any]:
    """A column's values as Python objects; those of a dictionary are made once."""
    values: list[Any] = []
    for part in column.chunks:
        if hasattr(part, "dictionary"):
            known = part.dictionary.to_pylist()
            values += [None if place is None else known[place] for place in part.indices.to_pylist()]
        else:
            values += part.to_pylist()
    return values


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[Any]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SourceError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    try:
        with pq.ParquetFile(path, pre_buffer=False) as table:
            yield table
    except FileNotFoundError as error:
        raise SourceError(f"{path} is gone: fetch it again") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno:  # pyarrow's own have none
            raise unreadable(path, error) from error
        raise SourceError(f"{path} is not a valid Parquet file ({one_line(error)}): fetch it again") from error


def one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
