"""Files that say which image is what."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from genmodel.data.sources.meaning.arrange import arrange, listing_of
from genmodel.data.sources.meaning.labels import read_label_file
from genmodel.data.sources.meaning.layout import Layout
from genmodel.data.sources.members import Collector, Listing
from genmodel.data.sources.opening import open_source
from genmodel.errors import SourceError

Arranged = Callable[..., Listing]
Classes = Callable[[Listing], dict[str, list[str]]]

BUCKETS = [f"{i // 2:05d}/img{i:08d}.png" for i in range(6)]


def attributes(listing: Listing) -> dict[str, dict[str, str]]:
    return {member.name: json.loads(member.attributes or "{}") for member in listing.members}


@pytest.mark.parametrize("top", ["", "set/"])
@pytest.mark.parametrize("form", ["pairs", "object", "one-hot"])
def test_stylegans_dataset_json(form: str, top: str, arranged: Arranged, classes: Classes) -> None:
    labels = {name: i % 3 for i, name in enumerate(BUCKETS)}
    told: object = labels if form == "object" else [[name, label] for name, label in labels.items()]
    if form == "one-hot":
        told = [[name, [int(label == place) for place in range(3)]] for name, label in labels.items()]
    listing = arranged([top + name for name in BUCKETS], files={f"{top}dataset.json": json.dumps({"labels": told})})
    assert classes(listing) == {str(label): [BUCKETS[label], BUCKETS[label + 3]] for label in range(3)}
    assert listing.ignored == {"read for labels": (1, f"{top}dataset.json")}
    assert listing.read == {"classes": "labels"}


def test_dataset_json_without_labels_or_of_another_kind(arranged: Arranged, classes: Classes) -> None:
    none = arranged(BUCKETS, files={"dataset.json": '{"labels": null}'})
    assert list(classes(none)) == ["images"] and "no image has a label" in none.notes[0]
    other = arranged(["a/1.png", "b/1.png"], files={"dataset.json": '{"licence": "none"}'})
    assert set(classes(other)) == {"a", "b"} and "not a label file despite its name" in other.ignored
    with pytest.raises(SourceError, match=r"dataset\.json is not valid JSON"):
        arranged(BUCKETS, files={"dataset.json": "{"})
    several = json.dumps({"labels": [[name, [0.5, 0.5]] for name in BUCKETS]})
    with pytest.raises(SourceError, match="several labels per image: use --classes none or folder"):
        arranged(BUCKETS, files={"dataset.json": several})
    for content in ("{}", several, '{"labels": 5}'):  # the advice helps
        ignored = arranged(BUCKETS, Layout(classes="none"), {"dataset.json": content})
        assert list(classes(ignored)) == ["images"] and set(ignored.ignored) == {"classes that are not used"}


def test_images_that_the_file_does_not_name_and_names_without_an_image(arranged: Arranged) -> None:
    told = json.dumps({"labels": [[name, 1] for name in [*BUCKETS[1:], "00009/gone.png"]]})
    listing = arranged(BUCKETS, files={"dataset.json": told})
    refused = {member.name: member.refused for member in listing.members if member.refused}
    assert refused == {BUCKETS[0]: "has no label in dataset.json"}
    assert listing.notes == ("names in dataset.json without an image here: 1",)


def test_minus_one_is_no_label(arranged: Arranged, classes: Classes) -> None:
    told = json.dumps({"labels": [[name, i - 1] for i, name in enumerate(BUCKETS)]})
    listing = arranged(BUCKETS, files={"dataset.json": told})
    assert classes(listing)[""] == [BUCKETS[0]] and len(classes(listing)) == 6
    assert listing.notes == ("images without a label (-1): 1",)


ROWS = [("1.png", 0, "red"), ("sub/2.png", 1, "blue"), ("sub/3.png", 0, "")]


def parquet(rows: list[dict[str, object]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    handle = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), handle)
    return handle.getvalue()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_imagefolders_metadata(ending: str, classes: Classes) -> None:
    rows = [{"file_name": name, "label": label, "colour": colour or None} for name, label, colour in ROWS]
    lines = ["file_name,label,colour", *(f"{name},{label},{colour}" for name, label, colour in ROWS)]
    content = {"csv": "\n".join(lines).encode(), "jsonl": "\n".join(map(json.dumps, rows)).encode()}
    found = Collector()
    for number, path in enumerate(["x/1.png", "x/sub/2.png", "x/sub/3.png", f"x/metadata.{ending}"]):
        found.add(path, (number,), 10)
    listing = arrange(found.found(), lambda entry: content.get(ending) or parquet(rows))
    assert classes(listing) == {"0": ["1.png", "sub/3.png"], "1": ["sub/2.png"]}
    assert attributes(listing) == {"1.png": {"colour": "red"}, "sub/2.png": {"colour": "blue"}, "sub/3.png": {}}


def test_metadata_of_each_split_and_captions(arranged: Arranged, classes: Classes) -> None:
    """The images' own names need not differ between the splits; a caption is an attribute, folders stay classes."""
    files = ["train/a/1.png", "train/b/2.png", "val/a/1.png"]
    told = {
        "train/metadata.csv": 'file_name,text\na/1.png,"a cat, sitting"\nb/2.png,a dog',
        "val/metadata.csv": "file_name,text\na/1.png,another cat",
    }
    listing = arranged(files, files=told)
    assert classes(listing) == {"a": ["train/a/1.png", "val/a/1.png"], "b": ["train/b/2.png"]}
    assert attributes(listing)["train/a/1.png"] == {"text": "a cat, sitting"}
    assert attributes(listing)["val/a/1.png"] == {"text": "another cat"}


@pytest.mark.parametrize("ending", ["txt", "csv"])
def test_celebas_attributes_and_partition(ending: str, arranged: Arranged, classes: Classes) -> None:
    files = [f"img_align_celeba/00000{i}.jpg" for i in range(1, 5)]
    rows = [f"00000{i}.jpg {1 if i % 2 else -1} {-1 if i % 2 else 1}" for i in range(1, 5)]
    told = {"Anno/list_attr_celeba.txt": "\n".join(["4", "Smiling Male", *rows])}
    told["Eval/list_eval_partition.txt"] = "\n".join(f"00000{i}.jpg {max(0, i - 2)}" for i in range(1, 5))
    if ending == "csv":
        told = {
            "list_attr_celeba.csv": "\n".join(["image_id,Smiling,Male", *(row.replace(" ", ",") for row in rows)]),
            "list_eval_partition.csv": "\n".join(
                ["image_id,partition", *(f"00000{i}.jpg,{max(0, i - 2)}" for i in range(1, 5))]
            ),
        }
    listing = arranged(files, files=told)
    assert classes(listing) == {"img_align_celeba": [f"img_align_celeba/00000{i}.jpg" for i in range(1, 4)]}
    assert attributes(listing)["img_align_celeba/000001.jpg"] == {"Smiling": "1", "Male": "-1"}
    assert [member.split for member in listing.members] == ["train", "train", "val"]
    assert listing.ignored["split test"].files == 1


TABLES = {
    "with a header": "name,label\n1.png,cat\n2.png,dog\n3.png,-1",
    "without one": "1.png,cat\n2.png,dog\n3.png,-1",
    "of other columns": "width,image_id,breed_id,class\n9,1,4,cat\n9,2,5,dog\n9,3,5,-1",
    "without endings, by tabs": "id\tlabel\n1\tcat\n2\tdog\n3\t",
    "by blanks": "1.png cat\n2.png dog\n3.png -1\n",
    "with folders, of Windows": "set\\1.png;cat\nset\\2.png;dog\nset\\3.png;-1",
}


@pytest.mark.parametrize("what", TABLES)
def test_a_file_of_classes(what: str, arranged: Arranged, classes: Classes, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text(TABLES[what])
    layout = Layout(classes=str(tmp_path / "labels.csv"))
    listing = arranged(["set/1.png", "set/2.png", "set/3.png", "set/4.png"], layout)
    assert classes(listing) == {"": ["3.png"], "cat": ["1.png"], "dog": ["2.png"]}
    assert [member.refused for member in listing.members if member.refused] == ["has no label in labels.csv"]


def test_a_file_of_classes_goes_before_the_sources_own(arranged: Arranged, classes: Classes, tmp_path: Path) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(dict.fromkeys(BUCKETS, "x")))
    told = {"dataset.json": json.dumps({"labels": [[name, 1] for name in BUCKETS]})}
    assert list(classes(arranged(BUCKETS, Layout(classes=str(tmp_path / "labels.json")), told))) == ["x"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a/1.png,cat\na/1.png,dog", "names a/1.png twice"),
        ("name,label\n1.png,cat,3", "row 1 has 3 cells, not 2"),
        ("name,width,height\n1.png,3,4", "has no column of labels: call it label"),
        ("1.png,cat\n", "1.png names several images"),
        ("1.png,a\u202eb", "is not a label: give a whole number, or a name"),
        ("1.png,\udcff", "is not UTF-8"),
    ],
)
def test_a_bad_file_of_classes_is_told(content: str, said: str, arranged: Arranged, tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(SourceError, match=said):
        arranged(["a/1.png", "b/1.png"], Layout(classes=str(tmp_path / "labels.csv")))


def many(rows: int) -> bytes:
    """A column of so many equal names, in a few KB."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    handle = io.BytesIO()
    some = pa.table({"file_name": pa.DictionaryArray.from_arrays(pa.array([0] * (1 << 20), pa.int8()), ["1.png"])})
    with pq.ParquetWriter(handle, some.schema) as writer:
        for _ in range(rows >> 20):
            writer.write_table(some, row_group_size=1 << 20)
    return handle.getvalue()


def test_a_damaged_label_file_in_a_zip_is_told(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "s", "w") as archive:
        archive.writestr("a/1.png", b"x")
        archive.writestr("dataset.json", b'{"labels": [["a/1.png", 7]]}')
    content = (tmp_path / "s").read_bytes()
    (tmp_path / "s").write_bytes(content.replace(b", 7]", b", 8]"))
    with pytest.raises(SourceError, match=r"dataset\.json cannot be read \(damaged in the zip\): fetch it again"):
        listing_of(open_source(str(tmp_path / "s")))


@pytest.mark.slow
def test_what_a_file_of_labels_may_ask_for_is_bounded() -> None:
    deep = b'{"labels": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    with pytest.raises(SourceError, match="is not valid JSON"):
        read_label_file("dataset.json", deep)
    wide = json.dumps({"file_name": "1.png", "text": "x" * 70_000}).encode()
    with pytest.raises(SourceError, match="more than 65,536 characters"):
        read_label_file("metadata.jsonl", wide)
    with pytest.raises(SourceError, match="unpacks to more than 1,073,741,824 bytes"):
        read_label_file("metadata.parquet", many(1 << 28))
    with pytest.raises(SourceError, match="is not a valid Parquet file"):
        read_label_file("metadata.parquet", b"PAR1")
