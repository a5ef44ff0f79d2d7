"""Parquet as the hub stores data sets: images in a struct or as bytes, labels as whole numbers or names."""

import json
import random
import re
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genmodel.data.block import UNLABELLED, Block
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows(images: dict[str, bytes]) -> list[dict[str, Any]]:
    """The images as ImageNet has them on the hub: {"image": {"bytes", "path"}, "label"}."""
    labels = ["ape", "bee", "cat"]
    return [
        {"image": {"bytes": content, "path": name.replace("/", "_")}, "label": labels.index(name[:3]) * 5}
        for name, content in images.items()
    ]


def write(path: Path, some: list[dict[str, Any]], kind: Any = IMAGE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    schema = pa.schema([("image", kind), ("label", pa.int64())])
    pq.write_table(pa.Table.from_pylist(some, schema), path, row_group_size=5)
    return path


def contents(place: object) -> dict[str, bytes]:
    source = open_source(str(place))
    return {member.name: source.read(member) for member in listing_of(source).members}


def test_a_file_a_folder_and_a_pattern(images: dict[str, bytes], tmp_path: Path) -> None:
    expected = {f"{row['label']}/{row['image']['path']}": row["image"]["bytes"] for row in rows(images)}
    one = write(tmp_path / "one.parquet", rows(images))
    for part in range(3):
        write(tmp_path / f"set/data/train-{part:05d}-of-00003.parquet", rows(images)[part::3])
    assert contents(one) == contents(tmp_path / "set") == expected
    assert contents(tmp_path / "set/data/train-{00000..00002}-of-00003.parquet") == expected
    write(tmp_path / "set/data/test-00000-of-00001.parquet", rows(images))
    listing = listing_of(open_source(str(tmp_path / "set")))
    assert {member.name for member in listing.members} == expected.keys()
    assert listing.ignored["split test"].files == len(expected)
    write(tmp_path / "set/data/validation-00000-of-00001.parquet", rows(images)[:3])
    listing = listing_of(open_source(str(tmp_path / "set")))
    held = {member.name for member in listing.members if member.split == "val"}
    assert held == {f"{row['label']}/validation/{row['image']['path']}" for row in rows(images)[:3]}
    assert len(listing.members) == len(expected) + 3 and not any(member.refused for member in listing.members)
    assert contents(tmp_path / "set/data/train-*.parquet") == expected


def test_shuffled_rows_give_the_same_block(
    images: dict[str, bytes],
    make: Callable[..., Block],
    tree: Callable[[Path], dict[str, bytes]],
    tmp_path: Path,
    small_shards: None,
) -> None:
    some = rows(images)
    first = make(str(write(tmp_path / "a/set.parquet", some)), tmp_path / "x")
    random.Random(5).shuffle(some)
    second = make(str(write(tmp_path / "b/set.parquet", some)), tmp_path / "y", workers=3)
    assert len(first) == 42 and first.classes == ["0", "5", "10"]
    assert tree(first.path) == tree(second.path)


def test_plain_bytes_without_paths_and_labels(images: dict[str, bytes], tmp_path: Path) -> None:
    some = list(images.values())
    pq.write_table(pa.table({"img": pa.array(some, pa.binary())}), tmp_path / "a.parquet", row_group_size=4)
    found = contents(tmp_path / "a.parquet")
    assert found == {f"images/a-{i:06d}": content for i, content in enumerate(some)}


def test_bad_rows_are_refused_or_rejected(images: dict[str, bytes], make: Any, tmp_path: Path) -> None:
    some = rows(images)
    some[0]["label"], some[1]["label"] = None, -1
    some[2]["image"]["path"] = "../up.jpg"
    some[3]["image"]["bytes"], some[4]["image"] = None, None
    block = make(str(write(tmp_path / "a.parquet", some)), tmp_path / "data")
    reasons = sorted(block.rejects()["reason"])
    assert reasons == ["a path with ..", "has no label", "no image in the row", "no image in the row"]
    assert len(block) == 38 and sorted(block.labels)[:2] == [UNLABELLED, 0]


def test_other_tables_and_damaged_ones_are_told(images: dict[str, bytes], tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SourceError, match=r"has no column of images .* only text, label"):
        contents(tmp_path / "a.parquet")
    path = write(tmp_path / "b.parquet", rows(images))
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(SourceError, match=r"b\.parquet is not a valid Parquet file .*fetch it again"):
        contents(path)


@pytest.mark.parametrize("container", ["a table", "a saved data set"])
def test_a_system_that_cannot_open_a_file_does_not_call_it_damaged(
    container: str, images: dict[str, bytes], tmp_path: Path
) -> None:
    write(tmp_path / "a.parquet", rows(images))
    (tmp_path / "saved").mkdir()
    table = pq.read_table(tmp_path / "a.parquet")
    with pa.ipc.new_stream(tmp_path / "saved/data.arrow", table.schema) as stream:
        stream.write_table(table)
    (tmp_path / "saved/state.json").write_text(json.dumps({"_data_files": [{"filename": "data.arrow"}]}))
    source = open_source(str(tmp_path / ("a.parquet" if container == "a table" else "saved")))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        with pytest.raises(SourceError) as told:
            source.scan()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert re.match(rf"cannot read {tmp_path}/\S+: Too many open files$", str(told.value))


def test_without_pyarrow(images: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.parquet", rows(images))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(SourceError, match="pip install pyarrow"):
        contents(path)
