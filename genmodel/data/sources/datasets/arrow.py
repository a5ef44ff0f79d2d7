"""Folders written by datasets' save_to_disk: Arrow streams with a column of images. Read in place, by pyarrow.

The columns are as in Parquet files (hub.py). A DatasetDict's folders are its splits.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genmodel.data.sources.archives.content import stamp_of, unreadable
from genmodel.data.sources.datasets.columns import Columns, columns_of
from genmodel.data.sources.datasets.hub import one_line
from genmodel.data.sources.meaning.labels import class_name
from genmodel.data.sources.members import FLAT_CLASS, MAX_PATH, Collector, Found, Member, Reject, Source, too_large
from genmodel.errors import SourceError
from genmodel.output.counting import counted

_MOST_JSON = 16 << 20  # bytes
_OPEN = 4  # files whose batches are kept
_BATCHES = 1 << 20
_ROWS, _BYTES_A_ROW = 1 << 18, 64  # as for a Parquet file


def saved_data_sets(folder: Path) -> list[tuple[Path, str]]:
    """The .arrow files of a saved data set, each with its split or an empty name; none if the folder is not one."""
    if (folder / "dataset_dict.json").is_file():
        splits = _read_json(folder / "dataset_dict.json").get("splits")
        if not isinstance(splits, list) or not all(_is_name(each) for each in splits):
            raise SourceError(f"{folder / 'dataset_dict.json'} names no splits: fetch it again")
        return [(path, split) for split in splits for path in _files(folder / split)]
    return [(path, "") for path in _files(folder)] if (folder / "state.json").is_file() else []


def _files(folder: Path) -> list[Path]:
    told = _read_json(folder / "state.json").get("_data_files")
    some = told if isinstance(told, list) else []
    names = [str(each.get("filename")) for each in some if isinstance(each, dict) and _is_name(each.get("filename"))]
    if not names or len(names) < len(some):
        raise SourceError(f"{folder / 'state.json'} names no files of data: fetch it again")
    missing = [folder / name for name in names if not (folder / name).is_file()]
    if missing:
        raise SourceError(
            f"{len(missing):,} of {counted(len(names), 'file')} missing, such as {missing[0]}: fetch them"
        )
    return [folder / name for name in names]


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name) and "/" not in name and name not in (".", "..") and "\0" not in name


def _read_json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError("too large")
        found = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise SourceError(f"{path} is missing: fetch it again") from error
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{path} is not valid JSON: fetch it again") from error
    return found if isinstance(found, dict) else {}


class Arrow(Source):
    """Arrow streams, each with its split. One batch of rows is mapped at a time."""

    def __init__(self, files: Sequence[tuple[Path, str]], name: str) -> None:
        self._paths, self._splits = [path for path, _ in files], [split for _, split in files]
        self.name, self.files, self.stamp = name, self._paths, stamp_of(self._paths)
        self._opened: dict[int, tuple[list[Any], Columns]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": {}}

    def scan(self) -> Found:
        found = Collector()
        several = len(set(self._splits)) > 1
        for file, (path, split) in enumerate(zip(self._paths, self._splits, strict=True)):
            batches, columns = self._open(file)
            if sum(len(batch) for batch in batches) > max(_ROWS, path.stat().st_size // _BYTES_A_ROW):
                raise SourceError(f"{path} claims too many rows for its size: fetch it again")
            for other in columns.others:
                found.ignore(f"{path.name}: {other}", f"a column of images beside {columns.image}")
            stem = f"{split}/{path.stem}" if several else path.stem
            number = 0
            for place, batch in enumerate(batches):
                with _whole(path):
                    labels = _column(batch, columns.label).to_pylist() if columns.label else [FLAT_CLASS] * len(batch)
                    counts = _counts(_column(batch, columns.image), columns)
                for row, (label, count) in enumerate(zip(labels, counts, strict=True)):
                    known = class_name(label)
                    if not count:
                        found.ignore(f"{path.name}: row {number}", "a row without images")
                    for item in range(count):
                        name = f"{stem}-{number:06d}" + (f"-{item}" if columns.is_list else "")
                        special = "has no label" if known is None else ""
                        found.add(name[:MAX_PATH], (file, place, row, item), 0, special, label=known, split=split)
                    number += 1
        return found.found()

    def read(self, member: Member) -> bytes:
        file, place, row, item = map(int, member.locator)
        batches, columns = self._open(file)
        with _whole(self._paths[file]):
            content = columns.content(_column(batches[place], columns.image)[row].as_py(), item)
        if content is None:
            raise Reject("no image in the row")
        if refused := too_large(len(content)):
            raise Reject(refused)
        return content

    def _open(self, file: int) -> tuple[list[Any], Columns]:
        """A file's batches, left in place in the file, and its columns."""
        if file not in self._opened:
            if len(self._opened) >= _OPEN:
                self._opened.pop(next(iter(self._opened)))
            path = self._paths[file]
            with _whole(path):
                import pyarrow as pa

                batches = []
                reader = pa.ipc.open_stream(pa.memory_map(str(path)))
                columns = columns_of(reader.schema, path)
                for batch in reader:
                    names: list[Any] = [name for name in (columns.image, columns.label) if name]
                    some = batch.select(names)
                    some.validate(full=True)
                    batches.append(some)
                    if len(batches) > _BATCHES:
                        raise ValueError("too many batches")
            self._opened[file] = batches, columns
        return self._opened[file]


def _column(batch: Any, name: str) -> Any:
    return batch.column(batch.schema.get_field_index(name))


def _counts(images: Any, columns: Columns) -> list[int]:
    """How many images each row has."""
    return [count or 0 for count in images.value_lengths().to_pylist()] if columns.is_list else [1] * len(images)


@contextmanager
def _whole(path: Path) -> Iterator[None]:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise SourceError(f"reading {path} needs pyarrow: pip install pyarrow") from error
    try:
        yield
    except FileNotFoundError as error:
        raise SourceError(f"{path} is gone: fetch it again") from error
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno:  # pyarrow's own have none
            raise unreadable(path, error) from error
        raise SourceError(f"{path} is not a valid Arrow stream ({one_line(error)}): fetch it again") from error
