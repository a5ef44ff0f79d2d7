"""A stage's inputs must stay as it found them: DVC takes their digests after the command, and would record later ones.

Small files are known by their digest, large ones by size, time and inode, without being read (the data may have 250
GB); the parts of params.yaml by their values. The code that a stage runs is known by its file in closures/, which it
compares with what it has loaded (flows/versioning/closures.py).
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from flows.versioning import dvc as versioning
from genmodel.errors import VersioningError
from genmodel.files import durable
from genmodel.params import read_yaml

_SKIPPED = ("__pycache__",)
_SMALL = 1 << 20  # bytes


class InputsChangedError(VersioningError):
    """An input of a stage changed while the stage ran."""


@contextlib.contextmanager
def unchanged_inputs(stage: str, root: Path) -> Iterator[None]:
    """InputsChangedError at the end of a block in which an input of `stage` changed; then none of its outs is left.

    Checkpoints and records are not outs, and stay. A project without a dvc.yaml declares no inputs.
    """
    told = versioning.declared(root, stage) if (root / "dvc.yaml").exists() else {}
    before = _inputs(told, root)
    yield
    after = _inputs(told, root)
    changed = [name for name, state in after.items() if before.get(name) != state]
    changed += sorted(before.keys() - after.keys())
    if changed:
        for out in _outs(told):
            _remove(root / out)
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        raise InputsChangedError(
            f"{changed[0]}{more} changed while {stage} ran, so that what it made is not kept: run again"
        )


def _inputs(told: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """What a stage depends on, by the name to show: files by their signatures, parameters by their values."""
    found: dict[str, Any] = {}
    for dep in told.get("deps", ()):
        found |= _files(root, str(dep))
    for entry in told.get("params", ()):
        for file, keys in (entry if isinstance(entry, dict) else {"params.yaml": [entry]}).items():
            content = read_yaml(root / file)
            found |= {f"{file}: {key}": _value(content, str(key)) for key in keys}
    return found


def _files(root: Path, place: str) -> dict[str, tuple[object, ...]]:
    top = root / place
    paths = [top] if top.is_file() else [Path(at) / name for at, _, names in os.walk(top) for name in names]
    return {
        path.relative_to(root).as_posix(): _signature(path)
        for path in paths
        if not any(part in _SKIPPED for part in path.parts) and path.suffix != ".partial"
    }


def _signature(path: Path) -> tuple[object, ...]:
    found = path.stat()
    if found.st_size <= _SMALL:
        return (durable.digest_file(path),)  # a touch is no change
    return found.st_size, found.st_mtime_ns, found.st_ino  # not ctime: DVC's own hard links change it


def _value(content: Any, key: str) -> Any:
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def _outs(told: Mapping[str, Any]) -> list[str]:
    entries = [entry for kind in ("outs", "metrics", "plots") for entry in told.get(kind, ())]
    return [str(next(iter(entry))) if isinstance(entry, dict) else str(entry) for entry in entries]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        durable.remove_folder(path)
    else:
        path.unlink(missing_ok=True)
