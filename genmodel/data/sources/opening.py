"""Where raw images come from. Nothing is unpacked to disk except bzip2, xz and Zstandard (compressed.py).

    source = open_source("ILSVRC2012_img_train.tar")
    for member in listing_of(source).members:
        content = source.read(member)

folder.py               a folder
archives/packed.py      tars and zips of class folders, plain, compressed or nested; folders of them
datasets/ilsvrc.py      ImageNet's validation images, with the labels of its devkit
datasets/webdataset.py  tars of key.jpg, key.cls, key.json
datasets/hub.py         Parquet files with a column of images
datasets/arrow.py       folders written by datasets' save_to_disk
datasets/lmdb.py        LMDB with one image per key, as in LSUN
datasets/arrays.py      MNIST's IDX files; scikit-learn's digits
datasets/npz.py         numpy's arrays of images
datasets/cifar.py       CIFAR's batches, as Python and as bytes
"""

import glob
import itertools
import math
import os
import re
from pathlib import Path

from genmodel.data.sources.archives.entries import tar_entries
from genmodel.data.sources.archives.gzipped import open_bytes
from genmodel.data.sources.archives.kinds import (
    ARCHIVES,
    HEAD,
    PACKINGS,
    has_zip_end,
    kind_of,
    parts_beside,
    refusal,
    told_of,
)
from genmodel.data.sources.archives.packed import ENDING, Packed
from genmodel.data.sources.archives.streams import Streams
from genmodel.data.sources.datasets.arrays import Digits, Idx
from genmodel.data.sources.datasets.arrow import Arrow, saved_data_sets
from genmodel.data.sources.datasets.cifar import Cifar, batch_files, is_batch
from genmodel.data.sources.datasets.hub import Hub, tables_in
from genmodel.data.sources.datasets.ilsvrc import Validation
from genmodel.data.sources.datasets.lmdb import Lmdb, lmdb_folders
from genmodel.data.sources.datasets.npz import Npz, zip_begins_with
from genmodel.data.sources.datasets.webdataset import WebDataset, is_webdataset
from genmodel.data.sources.folder import Folder
from genmodel.data.sources.members import DEVKIT, VALIDATION_NAME, Source, is_hidden, is_image
from genmodel.data.sources.stalls import each_read, reading
from genmodel.errors import SourceError
from genmodel.output.counting import counted

_KINDS = "a folder, an archive (tar or zip), WebDataset shards, Parquet files, arrays (npz, IDX, CIFAR), or digits"
_TARS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_PEEK = 16  # tar members that are looked at to recognise its kind
_MANY = 10_000  # a folder with this many images is not one of archives, whatever else is in it
_MAX_PATTERN = 100_000  # files a pattern may name


def open_source(location: str, devkit: Path | None = None, room: Path | None = None) -> Source:
    """The source at `location`: the path of a file or folder, "digits" if no folder has that name, or a pattern of
    WebDataset or Parquet files such as train-{0000..1023}.tar or data/train-*.parquet.

    `devkit` is ILSVRC2012_devkit_t12.tar.gz, for ImageNet's validation images; by default the one beside them. `room`
    is the folder for what must be unpacked to be read, by default the system's temporary folder.
    """
    path = Path(location)
    try:
        with reading(location):
            if path.is_dir():
                return _labelled(open_folder(path, room), path, devkit)
            if location == "digits":
                return Digits()
            if path.is_file():
                return _labelled(open_file(path, devkit, room), path, devkit)
            paths = [] if path.exists() else expand(location)
            if paths:
                return _labelled(_open_shards(paths, path.name, room), paths[0], devkit)
    except PermissionError as error:
        raise SourceError(f"not allowed to read {location}: {error.strerror}") from error
    except OSError as error:  # a name that is too long, a disk that does not answer
        raise SourceError(f"cannot read {location}: {error.strerror}") from error
    if path.exists():
        raise SourceError(f"{location} is neither a file nor a folder")
    raise SourceError(f"there is no source at {location}: give {_KINDS}")


def open_file(path: Path, devkit: Path | None = None, room: Path | None = None) -> Source:
    """The source in a file, or in the split archive that it is a part of."""
    parts = parts_beside(path) or [path]
    streams = Streams([parts], room)
    content = streams.open(0)
    head = content.read_at(0, HEAD)
    kind = kind_of(head)
    if not head:
        raise SourceError(f"{path} is empty: fetch it again")
    if kind == "parquet":
        return Hub([path], path.name)
    if kind == "zip" and zip_begins_with(head, ".npy"):
        return Npz(streams, path.name, parts)
    if kind == "zip" or (kind in ("", "program") and has_zip_end(content)):
        return Packed([(parts, "")], parts[0].name, room)
    if kind == "npy":
        return Npz(streams, path.name, parts)
    if kind == "lmdb":
        return Lmdb([(path, "")], path.name)
    if kind in PACKINGS:
        content = streams.open(streams.unpacked(0))
        head = content.read_at(0, HEAD)
        inner = kind_of(head)
        if inner not in ("tar", "", "idx images", "idx labels"):
            raise SourceError(f"{path} is compressed, and its content {told_of(inner)}")
        kind = inner
    if kind in ("idx images", "idx labels"):
        return Idx(path)
    if is_batch(path.name, head):
        return Cifar(streams, [(path.name, 0, 0, content.length)], path.name, parts)
    if kind not in ("tar", "") or (kind == "" and not _is_zeros(head) and not ENDING.search(path.name)):
        raise refusal(kind, path)
    peek = list(itertools.islice(tar_entries(content, 0, content.length, str(path)), _PEEK))
    names = [entry.name.removeprefix("./") for entry in peek]
    if all(is_image(name) and "/" not in name for name in names) and not VALIDATION_NAME.fullmatch((names or [""])[0]):
        names += [entry.name for entry in tar_entries(content, 0, content.length, str(path))]  # labels may come last
    if names and all(VALIDATION_NAME.fullmatch(name) for name in names):
        kit = devkit or path.with_name(DEVKIT)
        if not kit.is_file():
            raise SourceError(f"{path} has no labels: put {DEVKIT} beside it, or say where it is with --devkit")
        return Validation(Packed([(parts, "")], path.name, room), kit, only=True)
    if any(is_batch(entry.name, content.read_at(entry.offset, min(entry.size, 16))) for entry in peek):
        return Cifar.of_tar(streams, path.name, parts)
    if is_webdataset(names) and len(parts) == 1:
        return WebDataset([path], path.name, room)
    return Packed([(parts, "")], parts[0].name, room)


def _labelled(source: Source, path: Path, devkit: Path | None) -> Source:
    """The source in the file or folder `path`, with the classes of a `devkit`, or of one in that folder or beside."""
    if isinstance(source, Validation):
        return source
    if devkit:
        return Validation(source, devkit)
    found = [each for each in (path / DEVKIT, path.with_name(DEVKIT)) if each.is_file() and each != path]
    return Validation(source, found[0], asked=False) if found and isinstance(source, Folder | Packed) else source


def _is_zeros(head: bytes) -> bool:
    return not head.strip(b"\0")


def open_folder(folder: Path, room: Path | None = None) -> Source:
    """The source in a folder."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not is_hidden(entry.name))
    if sum(map(is_image, names)) > sum(bool(ENDING.search(name)) for name in names):
        return Folder(folder)
    name = folder.resolve().name
    if saved := saved_data_sets(folder):
        return Arrow(saved, name)
    if databases := lmdb_folders(folder):
        return Lmdb(databases, name)
    if batches := batch_files(folder):
        return Cifar.of_files(batches, name, room)
    shards = [folder / each for each in names if each.endswith(_TARS)]
    if tables := tables_in(folder):
        stems = {path.name.partition(".")[0] for path in shards}
        if not stems.intersection(path.name.partition(".")[0] for path in tables):  # as img2dataset writes them
            return Hub(tables, name)
    if shards and isinstance(open_file(shards[0], None, room), WebDataset):
        return WebDataset(shards, name, room)
    if any("idx3-ubyte" in each for each in names):
        images = [each for each in names if kind_of(open_bytes(folder / each).read_at(0, HEAD)) == "idx images"]
        if len(images) == 1:
            return Idx(folder / images[0])
        raise SourceError(f"{folder} holds {' and '.join(images)}: give one of them, such as {folder / images[-1]}")
    return _open_archives(folder, name, room) or Folder(folder)


def _open_archives(folder: Path, name: str, room: Path | None) -> Source | None:
    """The archives in a folder or below, if there are more than images (packed.py has the same rule)."""
    images = 0
    archives: list[tuple[list[Path], str]] = []
    loose: list[tuple[Path, str]] = []
    taken: set[Path] = set()
    for above, folders, files in each_read(folder, os.walk(folder)):
        folders[:] = sorted(each for each in folders if not is_hidden(each))
        for each in sorted(files):
            path = Path(above, each)
            inside = path.relative_to(folder).as_posix()
            images += is_image(each) and not is_hidden(each)
            if images > _MANY:
                return None
            if path in taken or not path.is_file():
                continue
            if is_image(each):  # not opened: a folder of small images would be read twice
                loose.append((path, inside))
                continue
            parts = parts_beside(path) or [path]
            kind = kind_of(_head(parts[0]))
            is_archive = len(parts) > 1 or ENDING.search(each) or kind in ("tar", "zip")
            if is_archive and not is_hidden(each) and kind in ("", *ARCHIVES):
                archives.append((parts, ENDING.sub("", _without_part(inside, parts))))
                taken.update(parts)
            else:
                loose.append((path, inside))
    return Packed(archives, name, room, loose) if len(archives) > images else None


def _without_part(inside: str, parts: list[Path]) -> str:
    """The path of a split archive without its part number."""
    return re.sub(r"[._-](part[._-]?)?\w+$", "", inside) if len(parts) > 1 else inside


def _head(path: Path) -> bytes:
    with reading(path), path.open("rb") as handle:
        return handle.read(HEAD)


def _open_shards(paths: list[Path], name: str, room: Path | None) -> Source:
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise SourceError(
            f"{len(missing):,} of {counted(len(paths), 'file')} missing, such as {missing[0]}: fetch them"
        )
    if all(path.name.endswith(".parquet") for path in paths):
        return Hub(paths, name)
    if all(path.name.endswith(_TARS) for path in paths):
        return WebDataset(paths, name, room)
    if parts := parts_beside(paths[0]):
        return open_file(parts[0], None, room)
    raise SourceError(f"{name} names files that are neither all tars nor all .parquet: name only one kind")


def expand(pattern: str) -> list[Path]:
    """The files that match a pattern with {0000..0015}, {train,val}, * or ?, in order; empty if it is not a pattern."""
    parts = re.split(r"\{([^{}]*)\}", pattern)  # at odd indexes: what is in braces
    choices = [_choices(part) if place % 2 else [part] for place, part in enumerate(parts)]
    if math.prod(map(len, choices)) > _MAX_PATTERN:
        raise SourceError(f"{pattern} names more than {_MAX_PATTERN:,} files: fix the numbers in braces")
    texts = ["".join(chosen) for chosen in itertools.product(*choices)]
    if any(character in pattern for character in "*?"):
        return [Path(found) for text in texts for found in sorted(glob.glob(text))]  # noqa: PTH207
    return [Path(text) for text in texts] if len(parts) > 1 else []


def _choices(braced: str) -> list[str]:
    span = re.fullmatch(r"(\d+)\.\.(\d+)", braced)
    if not span:
        return braced.split(",")
    first, last = int(span[1]), min(int(span[2]), int(span[1]) + _MAX_PATTERN)
    return [str(number).zfill(len(span[1])) for number in range(first, last + 1)]
