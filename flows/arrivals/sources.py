"""What the sources of data.dvc hold, by size and time: whether there is anything to read is known without reading it.

runs/sources.json keeps the state of each source whose images the block of a digest has, all of them, and the digest
that a retraining was last started with. Data of another digest (git brought them, say) may lack any image: then every
source is read once more.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.versioning import dvc as versioning
from flows.versioning.origin import DIGITS, Origin, Step
from flows.versioning.repo import DATA
from genmodel.data.sources.archives.kinds import ARCHIVES, HEAD, kind_of, parts_beside
from genmodel.data.sources.members import is_hidden
from genmodel.data.sources.opening import expand
from genmodel.errors import SourceError
from genmodel.files import durable

_NOTE = Path("runs/sources.json")
_TAKEN = (*ARCHIVES, "parquet")  # of the files in a folder of arrivals


@dataclass(frozen=True)
class State:
    """A source as it lies there."""

    files: int
    digest: str  # of the names, sizes and times of its files
    changed: float  # when one of them was last written or moved, seconds since the epoch


def read_state(location: str) -> State:
    """SourceError if there is nothing at `location`, or if it cannot be looked at."""
    digest, changed, count = hashlib.sha256(), 0.0, 0
    try:
        for path in _files(Path(location)):
            found = path.stat() if path.exists() else path.lstat()
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
            changed = max(changed, found.st_ctime)  # unlike the mtime it is never set back, by `cp -p` or rsync
            count += 1
    except OSError as error:
        raise SourceError(f"cannot read {error.filename or location}: {error.strerror}") from error
    if not count and not Path(location).is_dir():
        raise SourceError(f"there is no source at {location}")
    return State(count, digest.hexdigest(), changed)


def _files(place: Path) -> Iterable[Path]:
    """The files of a source, without those that its reader passes over, in order."""
    if not place.is_dir():
        return (parts_beside(place) or [place]) if place.exists() else expand(str(place))
    found: list[Path] = []
    for above, folders, names in os.walk(place, onerror=_refuse):
        folders[:] = [name for name in folders if not is_hidden(name)]
        found += [Path(above, name) for name in names if not is_hidden(name)]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error


def steps(origin: Origin) -> list[Step]:
    """Each source that can change once, read as it was read last."""
    latest = {step.source: step for step in origin.steps if step.source != DIGITS}
    return [
        Step(
            source=step.source,
            allow_rejects=step.allow_rejects,
            devkit=step.devkit,
            licence=step.licence,
            layout=step.layout,
        )
        for step in latest.values()
    ]


def arrivals(root: Path, folders: Iterable[str], known: Iterable[Step]) -> tuple[list[Step], list[str]]:
    """The archives in `folders` that are no source of the data yet, and the names of what is no archive.

    SourceError if a folder is not there, or cannot be read.
    """
    taken = {(root / step.source).resolve() for step in known}
    new: list[Step] = []
    left: list[str] = []
    for folder in folders:
        try:
            names = sorted(path.name for path in (root / folder).iterdir() if not is_hidden(path.name))
            for name in names:
                path, source = root / folder / name, str(Path(folder) / name)
                if path.resolve() in taken or path.is_dir() or path not in (parts_beside(path) or [path])[:1]:
                    continue
                with path.open("rb") as file:
                    is_archive = kind_of(file.read(HEAD)) in _TAKEN
                if is_archive:
                    new.append(Step(source=source))
                else:
                    left.append(source)
        except OSError as error:
            raise SourceError(f"cannot read {error.filename or folder}: {error.strerror}") from error
    return new, left


def states(root: Path, some: Iterable[Step]) -> dict[str, str]:
    """The digests of what the sources hold now, by source; to be taken before they are read.

    Without those that cannot be looked at: their reader tells why.
    """
    found: dict[str, str] = {}
    for step in some:
        with contextlib.suppress(SourceError):
            if step.source != DIGITS:
                found[step.source] = read_state(step.location(root)).digest
    return found


def is_read(root: Path, source: str, state: State) -> bool:
    """Whether the data that data.dvc names have all that the source holds in this state."""
    note = _note(root)
    return bool(note.get("data.dvc") == versioning.digest(root) and note.get("sources", {}).get(source) == state.digest)


def keep(root: Path, read: Mapping[str, str], before: str = "") -> None:
    """Remember that the data of data.dvc have all of these sources; `before`: the data that they were added to."""
    note = _note(root)
    others = note.get("sources", {}) if note.get("data.dvc") == before else {}
    _write(root, note | {"data.dvc": versioning.digest(root), "sources": {**others, **read}})


def announce(root: Path) -> None:
    """Remember that a retraining starts with the data of data.dvc, or was told to."""
    _write(root, _note(root) | {"announced": versioning.digest(root)})


def is_announced(root: Path) -> bool:
    """Whether a retraining has started with the data of data.dvc, or was told to."""
    digest = versioning.digest(root)
    return digest == _note(root).get("announced") or digest in _of_lock(root)


def _of_lock(root: Path) -> set[str]:
    """The versions of the data that dvc.lock's stages have run with."""
    import yaml

    try:
        stages = (yaml.safe_load((root / "dvc.lock").read_text()) or {}).get("stages", {})
    except FileNotFoundError:
        return set()
    deps = [dep for stage in stages.values() for dep in stage.get("deps", ())]
    return {dep["md5"] for dep in deps if dep["path"] == DATA and "md5" in dep}


def _note(root: Path) -> dict[str, Any]:
    """Empty without a readable one: then the sources are read once more."""
    try:
        note = json.loads((root / _NOTE).read_text())
    except (FileNotFoundError, ValueError, RecursionError):
        return {}
    return note if isinstance(note, dict) and isinstance(note.get("sources", {}), dict) else {}


def _write(root: Path, note: Mapping[str, Any]) -> None:
    durable.write_json(root / _NOTE, dict(note))
