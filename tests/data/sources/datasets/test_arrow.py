"""What datasets' save_to_disk writes, the hub's folders of Parquet files, and lists of images, which both may have."""

import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from genmodel.data.block import Block
from genmodel.data.sources.meaning.arrange import listing_of
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError


def table_of(images: dict[str, bytes]) -> pa.Table:
    rows = [{"image": {"bytes": content, "path": None}, "label": i % 3} for i, content in enumerate(images.values())]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.Table.from_pylist(rows, pa.schema([("image", kind), ("label", pa.int64())]))


def save(folder: Path, table: pa.Table, files: int = 2, rows: int = 5) -> None:
    """As save_to_disk does: streams in batches, the names of the files in state.json."""
    folder.mkdir(parents=True)
    names = [f"data-{i:05d}-of-{files:05d}.arrow" for i in range(files)]
    step = -(-len(table) // files)
    for i, name in enumerate(names):
        with pa.OSFile(str(folder / name), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table.slice(i * step, step), max_chunksize=rows)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def read(location: object, layout: Layout = Layout()) -> list[tuple[str, bytes]]:  # noqa: B008
    source = open_source(str(location))
    members = listing_of(source, layout).members
    assert not [member.refused for member in members if member.refused]
    again = pickle.loads(pickle.dumps(source))
    found = [(member.class_name, source.read(member)) for member in members]
    assert [again.read(member) for member in members] == [content for _, content in found]
    return sorted(found)


def expected(images: dict[str, bytes]) -> list[tuple[str, bytes]]:
    return sorted((str(i % 3), content) for i, content in enumerate(images.values()))


def test_a_saved_data_set(images: dict[str, bytes], tmp_path: Path, make: Callable[..., Block]) -> None:
    save(tmp_path / "set", table_of(images))
    assert read(tmp_path / "set") == expected(images)
    one, two = (make(str(tmp_path / "set"), tmp_path / f"{n}", workers=n) for n in (1, 3))
    assert one.digest == two.digest and len(one) == len(images)


def test_a_saved_dict_has_splits(images: dict[str, bytes], tmp_path: Path) -> None:
    some = dict(list(images.items())[:9])
    save(tmp_path / "set/train", table_of(images))
    save(tmp_path / "set/test", table_of(some), 1)
    (tmp_path / "set/dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    assert read(tmp_path / "set") == expected(images)
    assert read(tmp_path / "set", Layout(split="test")) == expected(some)


@pytest.mark.parametrize("told", ["{", '{"_data_files": [{"filename": "../a.arrow"}]}', '{"_data_files": 3}', "[[[["])
def test_a_state_that_lies_is_told(told: str, images: dict[str, bytes], tmp_path: Path) -> None:
    save(tmp_path / "set", table_of(images))
    (tmp_path / "set/state.json").write_text(told)
    with pytest.raises(SourceError, match=r"state\.json .*fetch it again"):
        open_source(str(tmp_path / "set"))


def test_cuts_and_flips_end_in_a_line_or_images(images: dict[str, bytes], tmp_path: Path) -> None:
    save(tmp_path / "set", table_of(dict(list(images.items())[:12])), 1)
    path = tmp_path / "set/data-00000-of-00001.arrow"
    whole, rng, told = path.read_bytes(), random.Random(0), list[str]()
    for trial in range(150):
        content = bytearray(whole)
        if trial % 3:
            content[rng.randrange(len(content) if trial % 2 else 1500)] ^= 1 << rng.randrange(8)
        else:
            del content[rng.randrange(1, len(content) - 8) :]
        path.write_bytes(content)
        try:
            source = open_source(str(tmp_path / "set"))
            members = listing_of(source).members
            assert trial % 3 and all(member.refused or source.read(member) is not None for member in members)
        except SourceError as error:
            told.append(str(error))
    assert len(told) >= 50 and "\n" not in "".join(told)


def write(path: Path, table: pa.Table, **how: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **how)


@pytest.mark.parametrize("form", ["default/{}/0000.parquet", "data/{}-00000-of-00001.parquet", "{}/part-0.parquet"])
def test_the_hubs_folders(form: str, images: dict[str, bytes], tmp_path: Path) -> None:
    some = dict(list(images.items())[:9])
    write(tmp_path / "set" / form.format("train"), table_of(images))
    write(tmp_path / "set" / form.format("test"), table_of(some))
    assert read(tmp_path / "set") == expected(images)
    assert read(tmp_path / "set", Layout(split="test")) == expected(some)
    write(tmp_path / "set" / form.format("validation"), table_of(some))
    members = listing_of(open_source(str(tmp_path / "set"))).members
    assert [member.split for member in members].count("val") == 9 and not any(member.refused for member in members)
    assert len(members) == len(images) + 9


def test_configurations_are_a_choice(images: dict[str, bytes], tmp_path: Path) -> None:
    for name in ("default", "small"):
        write(tmp_path / f"set/{name}/train/0000.parquet", table_of(images))
    with pytest.raises(SourceError, match=r"has the configurations default, small: give one of .*default"):
        open_source(str(tmp_path / "set"))
    assert read(tmp_path / "set/small") == expected(images)


def lists(images: dict[str, bytes], form: str) -> pa.Table:
    """Rows of 2, 0, 1 images, again and again."""
    contents, rows, at = list(images.values()), [], 0
    while at < len(contents):
        count = [2, 0, 1][len(rows) % 3]
        some = contents[at : at + count]
        rows.append([{"bytes": each, "path": None} for each in some] if form != "bytes" else some)
        at += count
    item = {
        "bytes": pa.binary(),
        "struct": pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
        "no path": pa.struct([("bytes", pa.binary())]),
    }[form]
    rows = [[{"bytes": each["bytes"]} for each in row] for row in rows] if form == "no path" else rows
    return pa.table({"images": pa.array(rows, pa.list_(item)), "label": [1] * len(rows)})


@pytest.mark.parametrize("form", ["bytes", "struct", "no path"])
@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_lists_of_images(form: str, container: str, images: dict[str, bytes], tmp_path: Path) -> None:
    """Each of a list's images is an image; rows without any are accounted for."""
    table = lists(images, form)
    if container == "parquet":
        write(tmp_path / "set/a.parquet", table, row_group_size=7)
    else:
        save(tmp_path / "set", table)
    assert read(tmp_path / "set") == sorted(("1", content) for content in images.values())
    listing = listing_of(open_source(str(tmp_path / "set")))
    assert listing.ignored["a row without images"].files == sum(not row for row in table["images"].to_pylist())


@pytest.mark.parametrize("container", ["parquet", "arrow"])
def test_one_of_several_columns_of_images_is_told(container: str, images: dict[str, bytes], tmp_path: Path) -> None:
    table = table_of(images)
    table = table.append_column("mask", table["image"])
    if container == "parquet":
        write(tmp_path / "set/a.parquet", table)
    else:
        save(tmp_path / "set", table, 1)
    assert read(tmp_path / "set") == expected(images)
    listing = listing_of(open_source(str(tmp_path / "set")))
    name = "a.parquet" if container == "parquet" else "data-00000-of-00001.arrow"
    assert listing.ignored == {"a column of images beside image": (1, f"{name}: mask")}
