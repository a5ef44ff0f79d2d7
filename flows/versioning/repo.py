"""DVC's view of a project, opened, and held against other processes; its errors become VersioningError.

DVC notes in .dvc/tmp/rwlock which process reads and writes what. It drops dead processes by itself, but not those
whose PID another process has by now, nor does it read a file that a kill or a crash cut off.
"""

import contextlib
import json
import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmodel.errors import VersioningError

if TYPE_CHECKING:
    from dvc.repo import Repo

DATA, DATA_FILE = "data", "data.dvc"
_DVC = re.compile(r"\bdvc\b|\bflows\.(prepare|retrain|watch|gc|stages)\b|multiprocessing")  # command lines that use it


class LockConflictError(VersioningError):
    """Another DVC process is at work on the same files: retry later."""


@contextlib.contextmanager
def opened(root: Path) -> Iterator["Repo"]:
    """DVC's view of the project, in which every pull is verified; errors in the block become VersioningError."""
    from dvc.exceptions import NotDvcRepoError
    from dvc.lock import LockError
    from dvc.repo import Repo
    from dvc.scm import SCMError

    logging.getLogger("dvc").setLevel(logging.WARNING)  # no advice after every step
    try:
        with Repo(str(root), config=_verifying(root)) as repo:
            _clear(repo)
            yield repo
    except VersioningError:
        raise
    except NotDvcRepoError as error:
        raise VersioningError(f"{root} is not a DVC project: go to the project's folder, or run `dvc init`") from error
    except LockError as error:
        raise LockConflictError(f"another DVC process is at work in {root}: wait for it, then run again") from error
    except SCMError as error:
        if (root / ".git").exists():
            raise VersioningError(f"DVC: {one_line(error)}") from error
        raise VersioningError(
            f"{root} has no .git: run `git init` there or, to work without git, `dvc config core.no_scm true`"
        ) from error
    except Exception as error:  # a remote's libraries raise errors of their own, under no common name
        raise VersioningError(f"DVC: {one_line(error)}") from error


@contextlib.contextmanager
def data_held(root: Path) -> Iterator[None]:
    """Hold data/ and data.dvc for writing; LockConflictError at once where a DVC process reads or writes them.

    This process's own calls of DVC pass: DVC identifies a holder by its PID and command.
    """
    from dvc.rwlock import rwlock

    with contextlib.ExitStack() as held:
        with opened(root) as repo:  # no longer than this: later errors are not DVC's
            places = [str(root.resolve() / name) for name in (DATA, DATA_FILE)]
            hardlink = repo.config["core"].get("hardlink_lock", False)
            held.enter_context(rwlock(repo.tmp_dir, repo.fs, " ".join(sys.argv), [], places, hardlink))
        yield


def one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _clear(repo: "Repo") -> None:
    """Remove what is certainly dead from DVC's rwlock; VersioningError if it cannot be read and others are at work."""
    from dvc.lock import make_lock

    if repo.tmp_dir is None:
        return
    path = Path(repo.tmp_dir) / "rwlock"
    if _alive(path) == _content(path):
        return
    hardlink = repo.config["core"].get("hardlink_lock", False)
    with make_lock(str(path) + ".lock", tmp_dir=repo.tmp_dir, hardlink_lock=hardlink):  # as DVC does before it writes
        content, alive = _content(path), _alive(path)
        if alive is None and (others := _at_work(Path(repo.root_dir), path.stat().st_mtime)):
            raise VersioningError(
                f"{path} is damaged (a process killed while writing it leaves that), and what it said of process "
                f"{', '.join(map(str, others))} is lost: wait for its end, or end it, and run again"
            )
        alive = alive or {}  # of no other process could it say anything
        if alive != content:
            path.write_text(json.dumps(alive))


def _at_work(root: Path, written: float) -> list[int]:
    """The processes that may have used DVC in the project before that time; a waiting parent of this one has not."""
    import psutil

    own = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "create_time"]):
        told = process.info
        inside = told["cwd"] and Path(told["cwd"]).is_relative_to(root)
        if inside and told["create_time"] <= written + 1 and _DVC.search(" ".join(told["cmdline"] or [])):
            found.append(told["pid"])
    return sorted(set(found) - own)


def _content(path: Path) -> Any:
    """What the file holds; {} without one, "damaged" where it cannot be read."""
    from dvc.rwlock import SCHEMA
    from voluptuous import Invalid

    try:
        content = json.loads(path.read_text())
        SCHEMA(content)
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError, Invalid):
        return "damaged"
    return content


def _alive(path: Path) -> Any:
    """The same without processes that began after the file was written: they only have the PID of a dead one.

    None where the file is damaged and a living process may have written it.
    """
    import psutil

    content = _content(path)
    if content == {}:
        return {}
    written = path.stat().st_mtime
    if content == "damaged":
        return {} if written < psutil.Process(1).create_time() else None  # from before the machine's start

    def lives(info: dict[str, Any]) -> bool:
        try:
            return bool(psutil.Process(info["pid"]).create_time() <= written + 1)
        except psutil.Error:
            return True  # ended: DVC says so itself; or another user's

    write = {place: info for place, info in content.get("write", {}).items() if lives(info)}
    read = {place: [info for info in infos if lives(info)] for place, infos in content.get("read", {}).items()}
    found = {"write": write, "read": {place: infos for place, infos in read.items() if infos}}
    return {kind: found[kind] for kind in content}


def _verifying(root: Path) -> dict[str, Any]:
    """Settings for DVC that make it compare what it pulls with its digest, from whatever remote."""
    from dvc.config import Config
    from dvc.repo import Repo

    remotes = Config(Repo.find_dvc_dir(str(root)))["remote"]
    return {"remote": {name: {"verify": True} for name in remotes}}
