"""Where raw images come from. Nothing is unpacked to disk.

    source = open_source("ILSVRC2012_img_train.tar")
    for member in source.scan().members:
        content = source.read(member)

packed.py       a tar, tar.gz or zip of class folders, a tar of tars
ilsvrc.py       ImageNet's validation tar, with the labels of its devkit
webdataset.py   tars of key.jpg, key.cls, key.json
hub.py          Parquet files with a column of images
arrays.py       MNIST's IDX files; scikit-learn's digits
"""

import glob
import itertools
import math
import os
import re
from pathlib import Path

from genmodel.data.sources.archives import open_bytes, tar_entries
from genmodel.data.sources.arrays import Digits, Idx, is_idx
from genmodel.data.sources.hub import Hub
from genmodel.data.sources.ilsvrc import VALIDATION_NAME, Validation
from genmodel.data.sources.members import Collector, Listing, Member, Reject, Source, is_hidden, is_image
from genmodel.data.sources.packed import Tar, Zip, special_mode
from genmodel.data.sources.webdataset import WebDataset, is_webdataset
from genmodel.errors import SourceError

_KINDS = "a folder, a tar, a tar.gz, a zip, WebDataset shards, Parquet files, MNIST's IDX files, or digits"
_TARS = (".tar", ".tar.gz", ".tgz")
_PEEK = 16  # members of a tar that are looked at to tell what it is
_MAX_PATTERN = 100_000  # files a pattern may name


def open_source(location: str, devkit: Path | None = None) -> Source:
    """The source at `location`: the path of a file or folder, "digits" where no folder is called so, or a pattern of
    WebDataset or Parquet files such as train-{0000..1023}.tar or data/train-*.parquet.

    `devkit` is ILSVRC2012_devkit_t12.tar.gz, for ILSVRC2012_img_val.tar; by default it lies beside that.
    """
    path = Path(location)
    try:
        if path.is_dir():
            return _open_folder(path)
        if location == "digits":
            return Digits()
        if path.is_file():
            return _open_file(path, devkit)
        paths = [] if path.exists() else _expand(location)
        if paths:
            return _open_shards(paths, path.name)
    except PermissionError as error:
        raise SourceError(f"not allowed to read {location}: {error.strerror}") from error
    except OSError as error:  # a name that is too long, a disk that does not answer
        raise SourceError(f"cannot read {location}: {error.strerror}") from error
    if path.exists():
        raise SourceError(f"{location} is neither a file nor a folder")
    raise SourceError(f"there is no source at {location}: give {_KINDS}")


def _open_file(path: Path, devkit: Path | None) -> Source:
    with path.open("rb") as handle:
        magic = handle.read(4)
    if not magic:
        raise SourceError(f"{path} is empty: fetch it again")
    if magic.startswith(b"PK"):
        return Zip(path)
    if magic == b"PAR1":
        return Hub([path], path.name)
    if is_idx(path):
        return Idx(path)
    content = open_bytes(path)
    peek = itertools.islice(tar_entries(content, 0, content.length, str(path)), _PEEK)
    names = [entry.name.removeprefix("./") for entry in peek]
    if names and all(VALIDATION_NAME.fullmatch(name) for name in names):
        return Validation(path, devkit)
    return WebDataset([path], path.name) if is_webdataset(names) else Tar(path)


def _open_folder(folder: Path) -> Source:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not is_hidden(entry.name))
    if any(is_image(name) for name in names):
        return Folder(folder)
    for place in (folder, folder / "data"):  # where the hub keeps them
        tables = sorted(place.glob("*.parquet"))
        splits = sorted({path.name.partition("-")[0] for path in tables if "-" in path.name})
        if len(splits) > 1:
            raise SourceError(
                f"{place} holds {', '.join(splits)}: choose one, such as '{place}/{splits[-1]}-*.parquet'"
            )
        if tables:
            return Hub(tables, folder.resolve().name)
    shards = [folder / name for name in names if name.endswith(_TARS)]
    if shards and isinstance(_open_file(shards[0], None), WebDataset):
        return WebDataset(shards, folder.resolve().name)
    return Folder(folder)


def _open_shards(paths: list[Path], name: str) -> Source:
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise SourceError(f"{len(missing):,} of {len(paths):,} files are not there, such as {missing[0]}: fetch them")
    if all(path.name.endswith(".parquet") for path in paths):
        return Hub(paths, name)
    if all(path.name.endswith(_TARS) for path in paths):
        return WebDataset(paths, name)
    raise SourceError(f"{name} names files that are neither all .tar nor all .parquet: name only one kind")


def _expand(pattern: str) -> list[Path]:
    """The files that a pattern with {0000..0015}, {train,val}, * and ? means, in order; nothing if it is none."""
    parts = re.split(r"\{([^{}]*)\}", pattern)  # what is in braces at the odd places
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


class Folder(Source):
    """A folder of class folders, or of images. Links are not followed."""

    def __init__(self, path: Path) -> None:
        self._path = path.resolve()
        self.name = self._path.name

    def scan(self) -> Listing:
        found = Collector()
        folders = [""]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(self._raw(folder)) as entries:
                    for entry in entries:
                        path = folder + entry.name.decode("utf-8", "surrogateescape")
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(path + "/")
                        else:
                            facts = entry.stat(follow_symlinks=False)
                            locator = (path, facts.st_size, facts.st_mtime_ns)
                            found.add(path, locator, facts.st_size, special_mode(facts.st_mode))
            except OSError as error:
                raise SourceError(f"cannot read {self._path / folder}: {error.strerror}") from error
        return found.listing()

    def _raw(self, path: str) -> bytes:
        """A path inside as the system has it. Names are UTF-8 in any locale, as in a tar, or classes depended on it."""
        return os.path.join(os.fsencode(self._path), path.encode("utf-8", "surrogateescape"))  # noqa: PTH118

    def read(self, member: Member) -> bytes:
        try:
            with open(self._raw(str(member.locator[0])), "rb", buffering=0) as handle:  # noqa: PTH123
                return handle.read()
        except FileNotFoundError as error:
            raise SourceError(f"{self._path} changed while it was read: {member.name} is gone") from error
        except OSError as error:
            raise Reject(f"cannot be read: {error.strerror}") from error
