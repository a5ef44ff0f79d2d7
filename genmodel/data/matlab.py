"""Enough of MATLAB's MAT-file format, version 5, to read a struct array: ImageNet's meta.mat, without scipy.

https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf: a header of 128 bytes, then elements of a type, a
size and data; a matrix (or the zlib stream of one) has its flags, dimensions, name and content as elements of its own.
"""

import math
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_MATRIX, _COMPRESSED = 14, 15
_NUMBERS = {1: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
_ENCODINGS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
_CELL, _STRUCT, _CHAR = 1, 2, 4
_MAX_NAMES = 1 << 16  # bytes of all names of a struct's fields
_MAX_BYTES = 64 << 20  # of one unpacked variable; a larger one is a bomb


def read_structs(content: bytes, name: str) -> list[dict[str, Any]]:
    """The struct array of that name, an element a dict: text as str, numbers as flat arrays, all else as None.

    ValueError if the bytes are no such file or hold no such variable.
    """
    if content[126:128] != b"IM":  # little-endian
        raise ValueError("no MAT-file of version 5")
    try:
        for kind, data in _elements(content, 128):
            if kind == _COMPRESSED:
                inflater = zlib.decompressobj()
                kind, data = next(_elements(inflater.decompress(data, _MAX_BYTES), 0))
            parts = _elements(data, 0)
            if kind == _MATRIX and _head(parts)[2] == name:
                value = _value(data)
                if isinstance(value, list):
                    return value
    except (zlib.error, StopIteration, IndexError, KeyError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError("damaged") from error
    raise ValueError(f"no struct array {name!r}")


def _elements(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    while at + 8 <= len(data):
        kind = int.from_bytes(data[at : at + 4], "little")
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        start = at + 8
        if kind >> 16:  # a small element: size and type share four bytes, the data follow in four
            kind, size, start = kind & 0xFFFF, kind >> 16, at + 4
        if start + size > len(data):
            raise ValueError("cut off")
        yield kind, data[start : start + size]
        at = start + size
        if kind != _COMPRESSED:
            at += -at % 8


def _head(parts: Iterator[tuple[int, bytes]]) -> tuple[int, int, str]:
    """A matrix's class, its number of items, and its name."""
    flags, dimensions, name = next(parts)[1], next(parts)[1], next(parts)[1]
    return flags[0], math.prod(np.frombuffer(dimensions, "<i4").tolist()), name.decode("latin-1")


def _value(matrix: bytes) -> Any:
    if not matrix:
        return None
    parts = _elements(matrix, 0)
    kind, count, _ = _head(parts)
    if kind == _STRUCT:
        width = int.from_bytes(next(parts)[1], "little")
        names = next(parts)[1]
        if not 0 <= count <= len(matrix) or len(names) > _MAX_NAMES:  # nothing is as small as an element
            raise ValueError("more elements than bytes")
        fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
        return [{field: _value(next(parts)[1]) for field in fields} for _ in range(count)]
    if kind == _CHAR:
        element, data = next(parts, (16, b""))
        return data.decode(_ENCODINGS[element])
    if kind == _CELL:
        return None
    element, data = next(parts, (2, b""))
    return np.frombuffer(data, _NUMBERS[element])
