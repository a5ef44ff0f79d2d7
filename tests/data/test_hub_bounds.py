"""Small Parquet files that ask for more memory than there is: told in one line, or read without it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genmodel.data import parquet
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

ROOT = Path(__file__).parents[2]
ZSTD = pa.Codec("zstd")
MIB = 1 << 20
VALUE = MIB.to_bytes(4, "little") + bytes(MIB)  # a value of 1 MiB, PLAIN

# Reads some of a file with 1.5 GB more than it takes to begin with, and prints what happened.
SCRIPT = """
import json, resource, sys
import pyarrow.parquet
from genmodel.data.sources.members import Reject
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (1500 << 20),) * 2)
try:
    source = open_source(sys.argv[1])
    members = listing_of(source).members
    lengths = []
    for member in members[:20] + members[-20:]:
        try:
            lengths.append(member.refused or len(source.read(member)))
        except Reject as reject:
            lengths.append(str(reject))
    print(json.dumps([len(members), sorted(set(lengths), key=str)]))
except SourceError as error:
    print(json.dumps(str(error)))
"""


def outcome(path: Path) -> Any:
    """[members, lengths or reasons of some], or the error's line."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    command = [sys.executable, "-c", SCRIPT, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert not isinstance(found, str) or (found.isprintable() and str(path) in found)
    return found


def page(values: int, content: bytes, unpacked: int, encoding: int = 0) -> bytes:
    return parquet._struct({1: 0, 2: unpacked, 3: len(content), 5: {1: values, 2: encoding, 3: 3, 4: 3}}) + content


def craft(path: Path, pages: bytes, rows: int, unpacked: int, optional: bool = False) -> Path:
    """A file with one column of images, of these pages; the footer says what it is told to."""
    numbers = {5: rows, 6: unpacked, 7: len(pages), 9: 4}
    meta = {1: 6, 2: [0, 3], 3: ["image"], 4: 6} | {key: parquet._Long(value) for key, value in numbers.items()}
    group = {1: [{2: parquet._Long(4), 3: meta}], 2: parquet._Long(unpacked), 3: parquet._Long(rows)}
    schema: list[dict[int, Any]] = [{4: "schema", 5: 1}, {1: 6, 3: int(optional), 4: "image"}]
    footer = parquet._struct({1: 2, 2: schema, 3: parquet._Long(rows), 4: [group]})
    path.write_bytes(b"PAR1" + pages + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    return path


def test_crafted_files_are_parquet(tmp_path: Path) -> None:
    content = page(1, ZSTD.compress(VALUE, asbytes=True), len(VALUE)) * 3
    path = craft(tmp_path / "a.parquet", content, 3, 3 * len(VALUE))
    assert [len(value) for value in pq.read_table(path)["image"].to_pylist()] == [MIB] * 3
    assert outcome(path) == [3, [MIB]]


@pytest.mark.slow
@pytest.mark.parametrize("told", [20_000 * len(VALUE), 1000])
def test_pages_of_20_gb_are_told_before_any_is_unpacked(told: int, tmp_path: Path) -> None:
    content = page(1, ZSTD.compress(VALUE, asbytes=True), len(VALUE)) * 20_000
    path = craft(tmp_path / "a.parquet", content, 20_000, told)
    assert path.stat().st_size < 3 * MIB
    assert f"row group 0 may unpack to more than {256 * MIB:,} bytes (image: 20," in outcome(path)


def test_a_page_that_claims_2_gb_is_told(tmp_path: Path) -> None:
    path = craft(tmp_path / "a.parquet", page(1, ZSTD.compress(b"\1\0\0\0x", asbytes=True), 2**31 - 1), 1, 100)
    assert "row group 0 may unpack to more than" in outcome(path)


@pytest.mark.parametrize("rows", [2**40, 2**31 - 1, 10**7])
def test_more_rows_than_a_file_can_hold_are_told(rows: int, tmp_path: Path) -> None:
    levels = b"\x06\0\0\0" + parquet._varint(min(rows, 2**31 - 1) << 1) + b"\0"  # as many nulls, in one run
    content = page(min(rows, 2**31 - 1), ZSTD.compress(levels, asbytes=True), len(levels))
    path = craft(tmp_path / "a.parquet", content, rows, 100, optional=True)
    assert f"claims {rows:,} rows, too many for its size" in outcome(path)


def repeat(path: Path, batch: pa.RecordBatch, count: int, groups: int = 1, **how: Any) -> Path:
    """A file of the batch, `count` times over, in so many row groups."""
    table = pa.Table.from_batches([batch] * count)
    pq.write_table(table, path, row_group_size=len(table) // groups, compression="zstd", **how)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("groups", [1, 200])
def test_a_dictionary_of_one_large_value_is_not_multiplied(groups: int, tmp_path: Path) -> None:
    batch = pa.record_batch({"image": pa.array([bytes(MIB)] * 20), "label": pa.array(["x" * MIB] * 20)})
    path = repeat(tmp_path / "a.parquet", batch, 200, groups, dictionary_pagesize_limit=1 << 30)
    assert path.stat().st_size < MIB
    assert outcome(path) == [4000, ["has no label"]]
    images = repeat(tmp_path / "b.parquet", batch.select(["image"]), 200, groups, dictionary_pagesize_limit=1 << 30)
    assert outcome(images) == [4000, [MIB]]


@pytest.mark.slow
def test_long_paths_in_many_row_groups_are_not_kept(tmp_path: Path) -> None:
    paths = pa.array([f"{number}/" + "y/" * (MIB // 2) for number in range(20)])
    image = pa.StructArray.from_arrays([pa.array([b"x"] * 20, pa.binary()), paths], ["bytes", "path"])
    schema = pa.schema([("image", image.type)])
    with pq.ParquetWriter(tmp_path / "b.parquet", schema, compression="zstd", use_dictionary=False) as writer:
        for number in range(100):
            longer = [f"{number}/{text}" for text in paths.to_pylist()]
            part = pa.StructArray.from_arrays([image.field("bytes"), pa.array(longer)], ["bytes", "path"])
            writer.write_table(pa.table({"image": part}))
    assert (tmp_path / "b.parquet").stat().st_size < 4 * MIB
    assert outcome(tmp_path / "b.parquet") == [2000, ["a name of more than 4,096 characters"]]


@pytest.mark.slow
def test_values_that_repeat_their_prefix_are_told(tmp_path: Path) -> None:
    batch = pa.record_batch({"image": pa.array([bytes(MIB)] * 20)})
    how: dict[str, Any] = {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}}
    path = repeat(tmp_path / "a.parquet", batch, 100, **how)
    assert path.stat().st_size < MIB
    assert "row group 0 may unpack to more than" in outcome(path)


def test_flipped_page_headers_end_in_a_line(tmp_path: Path, images: dict[str, bytes]) -> None:
    good = repeat(tmp_path / "a.parquet", pa.record_batch({"image": pa.array(list(images.values()))}), 1)
    content = good.read_bytes()
    for place in range(4, 24):
        path = tmp_path / f"{place}.parquet"
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x7F]) + content[place + 1 :])
    ends = set()
    for place in range(4, 24):
        source = open_source(str(tmp_path / f"{place}.parquet"))
        try:
            ends.add(len([source.read(member) for member in listing_of(source).members]))
        except SourceError as error:
            ends.add(str(error).partition("(")[0].rpartition(" is ")[2])
    assert "not a valid Parquet file " in ends


@pytest.mark.parametrize("kind", ["label", "path"])
def test_lists_where_names_belong_are_told_or_passed_over(kind: str, tmp_path: Path, images: dict[str, bytes]) -> None:
    some = [{"image": {"bytes": content, "path": ["a"]}, "label": [1]} for content in images.values()]
    path = tmp_path / "a.parquet"
    table = pa.Table.from_pylist(some)
    pq.write_table(table if kind == "label" else table.select(["image"]), path)
    if kind == "label":
        assert "its column label holds list<" in outcome(path)
    else:
        assert outcome(path)[0] == len(images)
