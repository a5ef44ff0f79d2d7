"""MATLAB's struct arrays as scipy writes them; anything else is a ValueError."""

import io
import random
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from genmodel.data.matlab import read_structs


def packed(variables: dict[str, Any], compressed: bool = True) -> bytes:
    handle = io.BytesIO()
    savemat(handle, variables, do_compression=compressed)
    return handle.getvalue()


def structs(count: int) -> np.ndarray:
    kinds = [("ID", "O"), ("WNID", "O"), ("words", "O"), ("children", "O"), ("odd", "O")]
    array = np.zeros((count, 1), kinds)
    for i in range(count):
        children = np.arange(i % 5, dtype=np.uint16)
        array[i, 0] = (float(i + 1), f"n{i * 7919:08d}", "Größe, cat" * (i % 3), children, np.array([1, "a"], object))
    return array


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("count", [0, 1, 300])
def test_reads_what_scipy_writes(compressed: bool, count: int) -> None:
    content = packed({"before": np.eye(3), "synsets": structs(count), "after": "text"}, compressed)
    found = read_structs(content, "synsets")
    assert [row["ID"].tolist() for row in found] == [[i + 1] for i in range(count)]
    assert [row["WNID"] for row in found] == [f"n{i * 7919:08d}" for i in range(count)]
    assert [row["words"] for row in found] == ["Größe, cat" * (i % 3) for i in range(count)]
    assert [row["children"].tolist() for row in found] == [list(range(i % 5)) for i in range(count)]


def test_what_is_not_there_and_what_is_no_struct() -> None:
    for name in ("synsets", "before"):
        with pytest.raises(ValueError, match="no struct array"):
            read_structs(packed({"before": np.eye(3)}), name)


@pytest.mark.parametrize("compressed", [True, False])
def test_damage_is_a_value_error(compressed: bool) -> None:
    rng, content = random.Random(0), packed({"synsets": structs(40)}, compressed)
    found = 0
    for _ in range(300):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 20])):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        try:
            read_structs(bytes(damaged[: rng.choice([len(damaged), rng.randrange(len(damaged))])]), "synsets")
        except ValueError:
            found += 1
    assert found > 100
    for short in (b"", content[:127], content[:128]):
        with pytest.raises(ValueError):
            read_structs(short, "synsets")


def test_more_elements_than_bytes_are_told() -> None:
    content = packed({"synsets": structs(0)}, False)
    place = content.index((0).to_bytes(4, "little") + (1).to_bytes(4, "little"), 144)
    huge = content[:place] + (2**31 - 1).to_bytes(4, "little") + content[place + 4 :]
    with pytest.raises(ValueError, match="more elements than bytes"):
        read_structs(huge, "synsets")


def element(kind: int, data: bytes) -> bytes:
    return kind.to_bytes(4, "little") + len(data).to_bytes(4, "little") + data + bytes(-len(data) % 8)


def test_a_variable_that_unpacks_to_a_gigabyte_is_told_before_it_does() -> None:
    squeezed = zlib.compressobj()
    head = (14).to_bytes(4, "little") + (1 << 30).to_bytes(4, "little")
    packed = squeezed.compress(head) + b"".join(squeezed.compress(bytes(16 << 20)) for _ in range(64))
    content = bytes(126) + b"IM" + element(15, packed + squeezed.flush())
    assert len(content) < 2 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="cut off"):
            read_structs(content, "synsets")
        assert tracemalloc.get_traced_memory()[1] < 200 << 20
    finally:
        tracemalloc.stop()


def test_more_names_than_a_struct_has_are_told() -> None:
    names = bytes(1 << 20)
    head = element(6, bytes([2]) + bytes(7)) + element(5, (1).to_bytes(4, "little") * 2) + element(1, b"synsets")
    matrix = head + element(5, (1).to_bytes(4, "little")) + element(1, names)
    with pytest.raises(ValueError, match="more elements than bytes"):
        read_structs(bytes(126) + b"IM" + element(14, matrix), "synsets")
