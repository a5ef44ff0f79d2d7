"""Files that are whole or absent: written aside, synced, renamed; their digests, and JSON sealed with its own."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

from genmodel.errors import GenmodelError, StorageError

_CHUNK = 1 << 20
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_OCCUPIED = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a full disk, a denied permission or a file in place of a folder into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(f"no space left to write {path}: free some and run the same command again") from error
        if error.errno in _FORBIDDEN:
            raise StorageError(f"not allowed to write {path}: {error.strerror}") from error
        if error.errno in _OCCUPIED:
            wanted = Path(error.filename2 or error.filename or path)
            there = next(each for each in (wanted, *wanted.parents) if each.exists())
            kind = "folder" if there.is_dir() else "file"
            raise StorageError(f"cannot write {path}: {there} is a {kind}; choose another place") from error
        raise


def probe(folder: Path) -> None:
    """Make `folder` if needed and test that it is writable, leaving nothing in it; StorageError if it is not."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as handle:
            handle.write(b"\0")


def sync_folder(folder: Path) -> None:
    """Make renames inside `folder` survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _private(path: str, flags: int) -> int:
    """Open a file that others can at most read, whatever the umask; under a stricter umask not even that."""
    return os.open(path, flags, 0o644)


def write_with(path: Path, write: Callable[[BinaryIO], object], sync: bool = True) -> None:
    """Write a file by `write(handle)` so that `path` holds either its old content or all of the new.

    Without `sync` that holds if the process is killed, but not if the machine stops.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with open(aside, "wb", opener=_private) as handle:
                write(handle)
                if sync:
                    handle.flush()
                    os.fsync(handle.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        if sync:
            sync_folder(path.parent)


def write_bytes(path: Path, content: bytes, sync: bool = True) -> None:
    write_with(path, lambda handle: handle.write(content), sync)


def write_text(path: Path, content: str, sync: bool = True) -> None:
    write_bytes(path, content.encode(), sync)


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON whose bytes depend only on the content; NaN is refused."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def seal(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with a checksum of itself, as `unseal` expects it."""
    return {**content, "checksum": digest_json(content)}


def unseal(text: str | bytes, where: object, error: type[GenmodelError], fix: str) -> dict[str, Any]:
    """The content of a JSON object that `seal` made, without its checksum.

    `error` if the text is truncated, not JSON, not what was sealed, or has no checksum: "`where` is damaged: `fix`".
    """
    try:
        content = json.loads(text)
        checksum = content.pop("checksum", None)
        told = digest_json(content)
    except (ValueError, TypeError, AttributeError, RecursionError) as cause:
        raise error(f"{where} is damaged: {fix}") from cause
    if checksum is None:
        raise error(f"{where} has no checksum, it is damaged or from an older version: {fix}")
    if checksum != told:
        raise error(f"{where} is damaged, its checksum does not match: {fix}")
    return dict(content)


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object that decides something, for `read_sealed`; its bytes depend only on the content."""
    write_json(path, seal(content))


def read_sealed(path: Path, error: type[GenmodelError], fix: str) -> dict[str, Any]:
    """What `write_sealed` wrote; `error` with `fix` if the file is missing or is not what was written."""
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise error(f"{path} is missing: {fix}") from cause
    except OSError as cause:
        raise error(f"{path} cannot be read ({cause.strerror}): {fix}") from cause
    return unseal(content, path, error, fix)


@contextlib.contextmanager
def sole(path: Path, busy: str) -> Iterator[None]:
    """Hold the lock file `path`, which is removed at the end; StorageError with the text `busy` if another process
    holds it."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = _locked(path, busy)
    with handle:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path, busy: str) -> IO[str]:
    while True:
        handle = path.open("a")
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            handle.close()
            raise StorageError(busy) from error
        if os.fstat(handle.fileno()).st_nlink:  # else its last holder has just removed it
            return handle
        handle.close()


def is_foreign(folder: Path, mark: str) -> bool:
    """Whether something exists at `folder` that is neither empty nor one of our folders, which hold a file `mark`."""
    return folder.exists() and not (folder / mark).exists() and (not folder.is_dir() or any(folder.iterdir()))


def remove_folder(folder: Path) -> None:
    """Remove one of our folders and its contents, if it exists; a kill leaves no half of it under its name."""
    gone = folder.with_name(f".{folder.name}.gone")
    with storage_errors(folder):
        if gone.exists():
            shutil.rmtree(gone)
        if folder.exists():
            folder.rename(gone)
            shutil.rmtree(gone)


def replace_folder(new: Path, target: Path) -> None:
    """Rename the finished folder `new` to `target`; an older `target` is removed only once `new` is on disk."""
    with storage_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        old = target.with_name(f".{target.name}.old")
        if old.exists() and not target.exists():  # killed between the two renames below
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        if target.exists():
            target.rename(old)
        new.rename(target)
        sync_folder(target.parent)
        shutil.rmtree(old, ignore_errors=True)


def digest_bytes(content: bytes) -> str:
    """sha256 in hexadecimal, 64 characters."""
    return hashlib.sha256(content).hexdigest()


def digest_file(path: Path) -> str:
    """sha256 of a file's bytes in hexadecimal, 64 characters."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def digest_json(content: Any) -> str:
    """sha256 of a JSON value, independent of the order of keys."""
    return digest_bytes(json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())
