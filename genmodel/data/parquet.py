"""Parquet files with the standard library and numpy alone, for ledgers whose bytes depend on their content alone.

The part of the format that a table of required INT32, INT64 and UTF-8 columns needs: one row group, one page per
column, PLAIN encoding, no compression, no statistics, no writer's name. Any Parquet tool reads what is written here;
`read` takes only what `write` wrote. https://parquet.apache.org/docs/file-format/ and Thrift's compact protocol.
"""

import hashlib
import mmap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from genmodel.data.texts import Texts
from genmodel.errors import BlockError
from genmodel.files import durable
from genmodel.output.counting import counted

Column = np.ndarray | list[str]

_MAGIC = b"PAR1"
_INT32, _INT64, _BYTE_ARRAY = 1, 2, 6  # parquet.thrift: enum Type
_DTYPES: dict[int, np.dtype[Any]] = {_INT32: np.dtype("<i4"), _INT64: np.dtype("<i8")}
_REQUIRED, _UTF8, _PLAIN, _RLE, _UNCOMPRESSED, _DATA_PAGE = 0, 0, 0, 3, 0, 0
_DICTIONARY_PAGE, _DATA_PAGE_V2 = 2, 3
_STOP, _TRUE, _FALSE, _I32, _I64, _BINARY, _LIST, _STRUCT = 0, 1, 2, 5, 6, 8, 9, 12  # Thrift's compact types
_MAX_DEPTH = 8


class _Long(int):
    """An integer that Thrift stores as i64; a plain int is an i32."""


def write(path: Path, columns: Mapping[str, np.ndarray | Sequence[str] | Texts]) -> None:
    """Write columns of equal length (int32 or int64 arrays [n], or n strings), whole or not at all.

    The bytes are the same whether strings are in memory or on disk (Texts).
    """
    rows = {len(column) for column in columns.values()}
    assert len(rows) == 1, f"columns of unlike length: {sorted(rows)}"
    count = rows.pop()
    schema: list[dict[int, Any]] = [{4: "schema", 5: len(columns)}]
    chunks: list[dict[int, Any]] = []
    parts: list[bytes | Texts] = [_MAGIC]
    offset = len(_MAGIC)
    for name, column in columns.items():
        kind, size, content = _plain(column)
        schema.append({1: kind, 3: _REQUIRED, 4: name} | ({6: _UTF8} if kind == _BYTE_ARRAY else {}))
        if count:
            page = _struct({1: _DATA_PAGE, 2: size, 3: size, 5: {1: count, 2: _PLAIN, 3: _RLE, 4: _RLE}})
            chunks.append(_chunk(kind, name, count, offset, len(page) + size))
            parts += [page, content]
            offset += len(page) + size
    size = sum(chunk[3][6] for chunk in chunks)
    groups = [{1: chunks, 2: _Long(size), 3: _Long(count)}] if count else []
    footer = _struct({1: 2, 2: schema, 3: _Long(count), 4: groups})
    parts += [footer, len(footer).to_bytes(4, "little"), _MAGIC]
    durable.write_with(
        path,
        lambda handle: handle.writelines(
            piece for part in parts for piece in (part.pieces() if isinstance(part, Texts) else [part])
        ),
    )


def _plain(column: np.ndarray | Sequence[str] | Texts) -> tuple[int, int, bytes | Texts]:
    """A column's type, its size in bytes, and the bytes."""
    if isinstance(column, Texts):
        return _BYTE_ARRAY, column.size, column
    if isinstance(column, np.ndarray):
        kind = {np.dtype(np.int32): _INT32, np.dtype(np.int64): _INT64}[column.dtype]
        content = column.astype(_DTYPES[kind]).tobytes()
        return kind, len(content), content
    texts = [text.encode() for text in column]
    content = b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))
    return _BYTE_ARRAY, len(content), content


def _chunk(kind: int, name: str, count: int, offset: int, size: int) -> dict[int, Any]:
    meta = {1: kind, 2: [_PLAIN, _RLE], 3: [name], 4: _UNCOMPRESSED, 5: _Long(count)}
    return {2: _Long(offset), 3: meta | {6: _Long(size), 7: _Long(size), 9: _Long(offset)}}


def _struct(fields: Mapping[int, Any]) -> bytes:
    out, last = bytearray(), 0
    for number, value in fields.items():
        kind, content = _encode(value)
        out.append((number - last) << 4 | kind)
        out += content
        last = number
    out.append(_STOP)
    return bytes(out)


def _encode(value: Any) -> tuple[int, bytes]:
    if isinstance(value, int):
        return (_I64 if isinstance(value, _Long) else _I32), _varint(value << 1)  # zigzag; none here is negative
    if isinstance(value, str):
        text = value.encode()
        return _BINARY, _varint(len(text)) + text
    if isinstance(value, dict):
        return _STRUCT, _struct(value)
    items = [_encode(item) for item in value]
    kind = items[0][0] if items else _STRUCT
    head = bytes([len(items) << 4 | kind]) if len(items) < 15 else bytes([0xF0 | kind]) + _varint(len(items))
    return _LIST, head + b"".join(content for _, content in items)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read(path: Path, columns: Sequence[str] | None = None, digest: str | None = None) -> dict[str, Any]:
    """The named columns (all by default) of a file that `write` made: integer arrays [n] and lists of n strings.

    BlockError if the file is missing, damaged or written by another tool, or if its sha256 is not `digest`; without
    one, only the bytes of these columns are touched.
    """
    try:
        with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if digest is not None and hashlib.sha256(content).hexdigest() != digest:
                raise BlockError(
                    f"{path} is damaged, its sha256 does not match block.json: pull or prepare the block again"
                )
            return _table(content, columns)
    except FileNotFoundError as error:
        raise BlockError(f"{path} is missing: pull or prepare the block again") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        fix = "it is damaged or from another tool; pull or prepare the block again"
        raise BlockError(f"{path} is not a ledger that genmodel wrote ({error}): {fix}") from error


def _table(content: mmap.mmap, columns: Sequence[str] | None) -> dict[str, Any]:
    size = int.from_bytes(content[-8:-4], "little")
    start = len(content) - 8 - size
    if content[:4] != _MAGIC or content[-4:] != _MAGIC or start < 4:
        raise ValueError("not a Parquet file")
    meta = _Thrift(content[start:-8], 0).struct()
    count, groups = meta[3], meta[4]
    kinds = {element[4].decode(): element[1] for element in meta[2][1:]}
    if len(groups) != (1 if count else 0):
        raise ValueError(counted(len(groups), "row group"))
    chunks = {chunk[3][3][0].decode(): chunk[3] for group in groups for chunk in group[1]}
    table: dict[str, Any] = {}
    for name in kinds if columns is None else columns:
        table[name] = _column(content, chunks[name], kinds[name], count) if count else _empty(kinds[name])
    return table


def _empty(kind: int) -> Column:
    return [] if kind == _BYTE_ARRAY else np.empty(0, _DTYPES[kind])


def _column(content: mmap.mmap, chunk: Mapping[int, Any], kind: int, count: int) -> Column:
    thrift = _Thrift(content, chunk[9])
    header = thrift.struct()
    data = content[thrift.at : thrift.at + header[3]]
    if (chunk[4], header[1], header[5][1], header[5][2]) != (_UNCOMPRESSED, _DATA_PAGE, count, _PLAIN):
        raise ValueError("an unknown encoding")
    if kind != _BYTE_ARRAY:
        values = np.frombuffer(data, _DTYPES[kind])
        if len(values) != count:
            raise ValueError(f"{counted(len(values), 'value')} for {counted(count, 'row')}")
        return values
    if count * 4 > len(data):  # each has its length before it: more rows would be endless empty strings
        raise ValueError(f"{counted(len(data), 'byte')} for {counted(count, 'row')}")
    texts, at = [], 0
    for _ in range(count):
        end = at + 4 + int.from_bytes(data[at : at + 4], "little")
        texts.append(data[at + 4 : end].decode())
        at = end
    if at != len(data):
        raise ValueError("strings of the wrong length")
    return texts


class Page(NamedTuple):
    """The facts in a page's header by which a reader allocates memory."""

    unpacked: int  # bytes
    values: int  # rows of data, nulls included; 0 for a dictionary
    encoding: int  # parquet.thrift: enum Encoding
    is_dictionary: bool


def pages(content: mmap.mmap, start: int, end: int, values: int) -> Iterator[Page]:
    """The pages of a column chunk, written by any tool, until there are `values` values or its `end` is reached.

    ValueError if their headers are damaged.
    """
    at, seen = start, 0
    while at < end and seen < values:
        try:
            thrift = _Thrift(content, at)
            page, packed = _page(thrift.struct())
        except (LookupError, TypeError) as error:
            raise ValueError("a page's header is damaged") from error
        yield page
        at, seen = thrift.at + packed, seen + page.values


def _page(header: Mapping[int, Any]) -> tuple[Page, int]:
    """A page's header as read, and how many bytes follow it."""
    kind, unpacked, packed = header[1], header[2], header[3]
    values, encoding = 0, _PLAIN
    if kind == _DATA_PAGE:
        values, encoding = header[5][1], header[5][2]
    elif kind == _DATA_PAGE_V2:
        values, encoding = header[8][1], header[8][4]
    if min(unpacked, packed, values) < 0:
        raise ValueError("a page of negative size")
    return Page(unpacked, values, encoding, kind == _DICTIONARY_PAGE), packed


class _Thrift:
    """A reader of compact Thrift: structs as {field number: value}, lists, integers, booleans, bytes."""

    def __init__(self, data: bytes | mmap.mmap, at: int) -> None:
        self.data, self.at = data, at

    def struct(self, depth: int = 0) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deeply")
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != _STOP:
            number = number + (head >> 4) if head >> 4 else self._integer()
            kind = head & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in (_I32, _I64):
            return self._integer()
        if kind == _BINARY:
            size = self._varint()
            self.at += size
            return self.data[self.at - size : self.at]
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind == _LIST:
            head = self._byte()
            length = head >> 4 if head >> 4 != 15 else self._varint()
            return [self._value(head & 15, depth + 1) for _ in range(length)]
        raise ValueError(f"Thrift type {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _varint(self) -> int:
        value, shift = 0, 0
        while (byte := self._byte()) > 0x7F:
            value |= (byte & 0x7F) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
        return value | byte << shift

    def _integer(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
