"""Label files: names of images with a class, a split, or attributes.

    dataset.json                            StyleGAN's and EDM's: {"labels": [["00000/img00000000.png", 6], ...]}
    metadata.csv, .jsonl, .parquet          imagefolder's: a column file_name, and others
    val_annotations.txt                     Tiny ImageNet's: name, class, box
    LOC_val_solution.csv                    Kaggle's ImageNet: ImageId, "n01440764 1 2 3 4"
    list_attr_celeba, list_eval_partition   CelebA's: 40 attributes, the split
    any other                               by --classes FILE: name and label, with a header or without

A label of -1 means that an image has no label.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from genmodel.data.sources.members import is_image
from genmodel.errors import SourceError
from genmodel.output.counting import counted
from genmodel.output.printable import is_printable, printable

_MAX_CLASS = 200  # characters of a class's name
_MAX_ATTRIBUTES = 64 << 10  # characters of an image's attributes
_MAX_UNPACKED = 1 << 30  # bytes of a Parquet file of labels
UNLABELLED = "-1"
ONLY_CLASSES = "dataset.json", "val_annotations.txt", "loc_val_solution.csv"  # these name nothing else
_NAMES = (
    "file_name",
    "filename",
    "file",
    "image_id",
    "imageid",
    "image",
    "image_name",
    "image_path",
    "path",
    "img",
    "id",
)
_LABELS = "label", "labels", "class", "class_name", "classname", "cls", "category", "target", "class_id", "label_id"
_SOLUTIONS = "loc_val_solution.csv", "loc_train_solution.csv"  # a class comes with its boxes
_PARTITIONS = {"0": "train", "1": "val", "2": "test"}  # CelebA's list_eval_partition


class Told(NamedTuple):
    """What a file says about an image."""

    label: str | None = None  # a class's name, "" for an image without a label; None: it does not say
    split: str = ""
    attributes: Mapping[str, str] = {}


@dataclass(frozen=True)
class LabelFile:
    """What a file says about images by name; a name is relative to its own folder, or the end of a path."""

    path: str  # in the source
    told: Mapping[str, Told] = field(default_factory=dict)
    required: bool = True  # an image of its folder that it does not name has no label
    within: bool = True  # it covers its own folder only

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0] if self.within else ""

    @property
    def has_classes(self) -> bool:
        return any(told.label is not None for told in self.told.values())


def class_name(label: Any) -> str | None:
    """A label, a whole number or a name, as a class's name; "" for -1, no label; None if it is neither."""
    if isinstance(label, bool) or not isinstance(label, int | str):
        return None
    if isinstance(label, str) and len(label) > 10 * _MAX_CLASS:
        return None
    text = " ".join(str(label).split()).replace("/", "_")
    if text == UNLABELLED:
        return ""
    if not text or text.startswith("-") or text in (".", "..") or len(text) > _MAX_CLASS or not is_printable(text):
        return None
    return str(int(text)) if text.lstrip("+").isdecimal() else text  # 07 and 7 are one class


def read_label_file(path: str, content: bytes) -> LabelFile | None:
    """A source's own label file, recognised by its name; None if it is another file of that name.

    SourceError if it is a damaged label file.
    """
    name = path.rpartition("/")[2].lower()
    if name == "dataset.json":
        facts = _json(path, content)
        return LabelFile(path, _stylegan(path, facts["labels"])) if _has(facts, "labels") else None
    if name.startswith("list_attr"):
        return LabelFile(path, _rows(path, _table(path, content), classes=False), required=False, within=False)
    if name.startswith("list_eval"):
        table = _table(path, content)
        told = {str(name): Told(split=_PARTITIONS.get(str(number), "")) for name, number in _pairs(path, table)}
        return LabelFile(path, told, required=False, within=False)
    if name == "val_annotations.txt":
        lines = [line.split() for line in _text(path, content).splitlines()]
        return LabelFile(path, {line[0]: Told(_class(path, line[1])) for line in lines if len(line) > 1})
    if name in _SOLUTIONS:
        pairs = _pairs(path, _table(path, content))
        told = {
            str(name): Told(_class(path, str(boxes).split()[0] if str(boxes).split() else "")) for name, boxes in pairs
        }
        return LabelFile(path, told, required=False, within=False)
    told = _rows(path, _table(path, content))
    return LabelFile(path, told, required=any(each.label is not None for each in told.values()))


def read_classes(path: str, content: bytes) -> LabelFile:
    """The file that --classes names: JSON, JSON lines, Parquet, or a text table; SourceError if it is none of them."""
    if path.rpartition("/")[2].lower() in _SOLUTIONS and (boxes := read_label_file(path, content)):
        return boxes
    if path.lower().endswith(".json"):
        facts = _json(path, content)
        labels = facts["labels"] if _has(facts, "labels") else facts
        return LabelFile(path, _stylegan(path, labels), within=False)
    told = _rows(path, _table(path, content), certain=True)
    if not any(each.label is not None for each in told.values()):
        raise SourceError(
            f"{path} has no column of labels: call it label, or keep only two columns, the name and the label"
        )
    return LabelFile(path, told, within=False)


def as_json(attributes: Mapping[str, str]) -> str:
    """Attributes as the ledger keeps them; nothing if there are none."""
    return json.dumps(dict(attributes), ensure_ascii=False, sort_keys=True) if attributes else ""


def _has(facts: Any, key: str) -> bool:
    return isinstance(facts, dict) and key in facts


def _stylegan(path: str, labels: Any) -> dict[str, Told]:
    if labels is None:
        return {}
    pairs = list(labels.items()) if isinstance(labels, dict) else labels
    if not isinstance(pairs, list) or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise SourceError(
            f"{path}: its labels are not pairs of a name and a label: use --classes none or folder to ignore them"
        )
    return {str(name).replace("\\", "/"): Told(_class(path, _one_hot(path, label))) for name, label in pairs}


def _one_hot(path: str, label: Any) -> Any:
    """A label; for a one-hot vector, the class's number."""
    if not isinstance(label, list):
        return int(label) if isinstance(label, float) and label.is_integer() else label
    if len(label) == 1 and isinstance(label[0], int):
        return label[0]
    if sum(value == 1 for value in label) != 1 or any(value not in (0, 1) for value in label):
        raise SourceError(f"{path} has several labels per image: use --classes none or folder to ignore them")
    return label.index(1)


def _class(path: str, label: Any) -> str:
    name = class_name(label)
    if name is None:
        raise SourceError(f"{path}: {str(label)[:100]!r} is not a label: give a whole number, or a name")
    return name


def _rows(
    path: str, table: Sequence[Mapping[str, Any]], classes: bool = True, certain: bool = False
) -> dict[str, Told]:
    """A table of names with labels, attributes, or both; `certain`: a single column is the labels, under any name."""
    columns = list(table[0]) if table else []
    lower = {column.strip().lower(): column for column in reversed(columns)}
    name = next((lower[each] for each in _NAMES if each in lower), columns[0] if columns else "")
    others = [column for column in columns if column != name]
    label = next((lower[each] for each in _LABELS if each in lower and lower[each] != name), None) if classes else None
    if certain and label is None and len(others) == 1:
        label = others[0]
    told: dict[str, Told] = {}
    for row in table:
        key = str(row[name] or "").strip().replace("\\", "/").removeprefix("./")
        if not key:
            raise SourceError(f"{path} has a row without a name in its column {name}")
        if key in told:
            raise SourceError(f"{path} names {key} twice: keep one of the two rows")
        value = None if label is None else _class(path, _whole(row[label]))
        attributes = {printable(each): _value(row[each]) for each in others if each != label}
        attributes = {each: text for each, text in attributes.items() if text}
        if sum(map(len, attributes.values())) > _MAX_ATTRIBUTES:
            raise SourceError(
                f"{path}: the attributes of {key} have more than {_MAX_ATTRIBUTES:,} characters: shorten them"
            )
        told[key] = Told(value, attributes=attributes)
    return told


def _whole(value: Any) -> Any:
    """No label as -1; a whole number where pandas wrote 3.0."""
    if value is None or value == "" or value != value:
        return -1
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(value: Any) -> str:
    """An attribute's value as text; empty for anything but a number, text or boolean."""
    if isinstance(value, bool):
        return str(value).lower()
    return printable(str(value).strip()) if isinstance(value, str | int | float) and value == value else ""


def _pairs(path: str, table: Sequence[Mapping[str, Any]]) -> list[tuple[Any, Any]]:
    pairs = [tuple(row.values())[:2] for row in table]
    if any(len(pair) != 2 for pair in pairs):
        raise SourceError(f"{path} is not a table of two columns: fetch it again")
    return [(first, second) for first, second in pairs]


def _table(path: str, content: bytes) -> list[dict[str, Any]]:
    """A table's rows by column, in the format of the file's extension: .jsonl, .parquet, or text."""
    ending = path.rpartition(".")[2].lower()
    if ending == "parquet":
        return _parquet(path, content)
    if ending == "jsonl":
        rows = [_json(path, line.encode()) for line in _text(path, content).splitlines() if line.strip()]
        if not all(isinstance(row, dict) for row in rows):
            raise SourceError(f"{path}: each line must be a JSON object")
        columns = {column: None for row in rows for column in row}
        return [columns | row for row in rows]
    return _text_table(path, _text(path, content))


def _text_table(path: str, text: str) -> list[dict[str, Any]]:
    lines = [line for line in text.splitlines() if line.strip()]
    if lines and lines[0].strip().isdecimal() and len(lines) > 2:  # CelebA's: the number of images, the attributes
        columns = ["file_name", *lines[1].split()]
        return _by_column(path, columns, [line.split() for line in lines[2:]])
    first = lines[0] if lines else ""
    mark = next((mark for mark in ("\t", ",", ";") if mark in first), "")
    try:
        rows = list(csv.reader(lines, delimiter=mark)) if mark else [line.rsplit(None, 1) for line in lines]
    except csv.Error as error:
        raise SourceError(f"{path} is not a valid table ({error}): fetch it again") from error
    rows = [[cell.strip() for cell in row] for row in rows]
    if rows and _is_header(rows[0]):
        return _by_column(path, rows[0], rows[1:])
    return _by_column(
        path, ["file_name", "label", *(f"attribute {n}" for n in range(1, len(rows[0]) - 1))] if rows else [], rows
    )


def _is_header(row: Sequence[str]) -> bool:
    lower = [cell.lower() for cell in row]
    return not is_image(row[0]) and (
        lower[0] in (*_NAMES, "name") or any(cell in _LABELS for cell in lower[1:]) or not lower[0]
    )


def _by_column(path: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[dict[str, Any]]:
    result = []
    for number, row in enumerate(rows, 1):
        if len(row) != len(columns):
            raise SourceError(
                f"{path}: row {number} has {counted(len(row), 'cell')}, not {len(columns)}: {','.join(row)[:80]}"
            )
        result.append(dict(zip(columns, row, strict=True)))
    return result


def _parquet(path: str, content: bytes) -> list[dict[str, Any]]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SourceError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    try:
        with pq.ParquetFile(io.BytesIO(content)) as table:
            groups = [table.metadata.row_group(group) for group in range(table.num_row_groups)]
            if sum(max(group.total_byte_size, 8 * group.num_rows) for group in groups) > _MAX_UNPACKED:
                raise SourceError(f"{path} unpacks to more than {_MAX_UNPACKED:,} bytes: keep only names and labels")
            rows: list[dict[str, Any]] = table.read(use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SourceError(f"{path} is not a valid Parquet file: fetch it again") from error
    return rows


def _json(path: str, content: bytes) -> Any:
    try:
        return json.loads(_text(path, content))
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON ({printable(str(error))[:100]}): fetch it again") from error


def _text(path: str, content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"{path} is not UTF-8: save it as UTF-8") from error
