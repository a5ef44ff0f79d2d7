"""pyarrow reads what we write, we read it back, and damage is an error that names the file."""

import io
import resource
import tempfile
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmodel.data import parquet
from genmodel.data.texts import Texts
from genmodel.errors import BlockError, StorageError
from genmodel.files import durable

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, np.ndarray | list[str]]:
    names = draw(st.lists(TEXT.filter(bool), min_size=1, max_size=20, unique=True))
    rows = draw(st.integers(0, 40))
    table: dict[str, np.ndarray | list[str]] = {}
    for name in names:
        bits = draw(st.sampled_from([0, 32, 64]))
        if bits:
            values = st.integers(-(1 << bits - 1), (1 << bits - 1) - 1)
            table[name] = np.array(draw(st.lists(values, min_size=rows, max_size=rows)), f"int{bits}")
        else:
            table[name] = draw(st.lists(TEXT, min_size=rows, max_size=rows))
    return table


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(tables())
def test_pyarrow_and_we_read_what_we_write(table: dict[str, np.ndarray | list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        parquet.write(path, table)
        theirs, ours = pq.read_table(path, use_threads=False), parquet.read(path)
    assert theirs.column_names == list(ours) == list(table)
    for name, column in table.items():
        expected = column if isinstance(column, list) else column.tolist()
        assert theirs[name].to_pylist() == expected
        if isinstance(column, list):
            assert theirs.schema.field(name).type == pa.string()
            assert ours[name] == column
        else:
            assert theirs.schema.field(name).type == pa.from_numpy_dtype(column.dtype)
            assert ours[name].dtype == column.dtype and ours[name].tolist() == expected


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(tables())
def test_strings_on_disk_give_the_same_bytes(table: dict[str, np.ndarray | list[str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.parquet"
        parquet.write(path, table)
        expected, columns = path.read_bytes(), dict[str, np.ndarray | list[str] | Texts](table)
        for name, column in table.items():
            if isinstance(column, list):
                columns[name] = texts = Texts(Path(folder))
                for text in column:
                    texts.append(text)
                assert len(texts) == len(column)
        parquet.write(path, columns)
        assert path.read_bytes() == expected
        assert [each.name for each in Path(folder).iterdir()] == ["t.parquet"]


@pytest.mark.slow
def test_strings_on_disk_take_no_memory(tmp_path: Path) -> None:
    texts = Texts(tmp_path)
    tracemalloc.start()
    for number in range(200_000):
        texts.append(f"{number:064d}")
    parquet.write(tmp_path / "t", {"name": texts})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 << 20, "of 13 MiB"
    assert parquet.read(tmp_path / "t")["name"] == [f"{number:064d}" for number in range(200_000)]


def test_a_full_disk_is_told_with_the_folder(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    texts = Texts(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))  # as a full disk says it: EFBIG
    try:
        with pytest.raises(StorageError, match=rf"no space left to write {tmp_path}: free some"):
            texts.append("x" * (2 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def small() -> dict[str, np.ndarray | list[str]]:
    return {"name": ["a", "ünï", ""], "row": np.array([1, -2, 3], np.int32), "big": np.array([1, 2, 1 << 60])}


def test_bytes_depend_on_the_content_alone(tmp_path: Path) -> None:
    parquet.write(tmp_path / "t", small())
    digest = "2acb5df16a2c5a001c166d5a13e85a2111a2caed75e2f05b2d502cdd8c370f84"
    assert durable.digest_file(tmp_path / "t") == digest


def test_only_the_asked_columns_are_read(tmp_path: Path) -> None:
    parquet.write(tmp_path / "t", small())
    assert list(parquet.read(tmp_path / "t", ["row"])) == ["row"]
    with pytest.raises(BlockError, match="t is not a ledger"):
        parquet.read(tmp_path / "t", ["none"])


@pytest.mark.slow
def test_every_flipped_bit_and_cut_reads_as_something_or_is_a_block_error(tmp_path: Path) -> None:
    path = tmp_path / "t"
    parquet.write(path, small())
    whole = path.read_bytes()
    damaged = [whole[:end] for end in range(len(whole))]
    damaged += [
        whole[:i] + bytes([whole[i] ^ 1 << bit]) + whole[i + 1 :] for i in range(len(whole)) for bit in range(8)
    ]
    errors = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            parquet.read(path)
        except BlockError:
            errors += 1
    assert errors > len(damaged) / 2


def test_other_tools_files_are_refused_not_misread(tmp_path: Path) -> None:
    handle = io.BytesIO()
    pq.write_table(pa.table({"row": pa.array([1, 2, 3, 2], pa.int32())}), handle)
    (tmp_path / "t").write_bytes(handle.getvalue())
    with pytest.raises(BlockError, match=r"unknown encoding|not a ledger"):
        parquet.read(tmp_path / "t")


def test_missing_and_empty(tmp_path: Path) -> None:
    with pytest.raises(BlockError, match="is missing"):
        parquet.read(tmp_path / "t")
    (tmp_path / "t").touch()
    with pytest.raises(BlockError, match="not a ledger"):
        parquet.read(tmp_path / "t")


def test_more_rows_than_bytes_are_told_at_once(tmp_path: Path) -> None:
    parquet.write(tmp_path / "a.parquet", {"name": ["a"]})
    huge = {1: 1 << 40, 2: 0, 3: 3, 4: 3}
    header = parquet._struct({1: 0, 2: 0, 3: 0, 5: {key: parquet._Long(value) for key, value in huge.items()}})
    with pytest.raises(ValueError, match="0 bytes for 1"):
        parquet._column(memoryview(header), {4: 0, 9: 0}, 6, 1 << 40)  # type: ignore[arg-type]
