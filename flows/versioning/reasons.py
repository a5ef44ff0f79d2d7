"""Why a stage would run: what differs from dvc.lock, in words."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.versioning.repo import DATA, opened
from genmodel.params import read_yaml

if TYPE_CHECKING:
    from dvc.repo import Repo

CLOSURES = "closures"  # of flows/versioning/closures.py
_MISSING = "(not set)"


def reasons(root: Path) -> dict[str, list[str]]:
    """What has changed of each stage that does not match dvc.lock, by its name; a sentence without a full stop each.

    A stage that only follows another one is not among them. The code counts as of the last closures.refresh.
    """
    lock = root / "dvc.lock"
    locked: Mapping[str, Any] = (read_yaml(lock) if lock.exists() else {}).get("stages", {})
    with opened(root) as repo:
        status = repo.status()
        names = {stage.addressing: stage.name for stage in repo.index.graph if not stage.is_data_source}
        return {
            names[place]: list(_told(repo, root, entries, locked.get(names[place])))
            for place, entries in status.items()
            if place in names
        }


def _told(repo: "Repo", root: Path, entries: list[Any], locked: Mapping[str, Any] | None) -> Iterator[str]:
    if locked is None:
        yield "it has not run yet"
        return
    for entry in entries:
        if entry == "always changed":
            yield "it is always asked"
        elif isinstance(entry, str):  # "changed command"
            yield f"its {entry.removeprefix('changed ')} changed in dvc.yaml"
        else:
            for path, what in entry.get("changed deps", {}).items():
                yield from _of_input(repo, root, path, what, locked)
            for path, what in entry.get("changed outs", {}).items():
                yield f"{path} is {'missing' if what == 'deleted' else 'not as it was written'}"


def _of_input(repo: "Repo", root: Path, path: str, what: Any, locked: Mapping[str, Any]) -> Iterator[str]:
    if isinstance(what, Mapping):  # a file of parameters
        before, now = locked.get("params", {}).get(path, {}), read_yaml(root / path) if (root / path).exists() else {}
        for name in what:
            yield from (f"{path}: {line}" for line in _settings(name, before.get(name), _at(now, name)))
    elif path.startswith(f"{CLOSURES}/"):
        yield _of_code(repo, root / path, next((dep["md5"] for dep in locked["deps"] if dep["path"] == path), ""))
    elif path == DATA:
        yield f"{DATA} {'are missing' if what == 'deleted' else 'are another version'}"
    else:
        yield f"{path} {'is missing' if what == 'deleted' else 'changed'}"


def _settings(name: str, before: Any, now: Any) -> Iterator[str]:
    """A line for each setting under `name` that differs."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _settings(f"{name}.{key}", before.get(key, _MISSING), now.get(key, _MISSING))
    elif before != now:
        yield f"{name} {_shown(before)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    return value if value == _MISSING else json.dumps(value)


def _at(values: Any, name: str) -> Any:
    for key in name.split("."):
        values = values.get(key, _MISSING) if isinstance(values, Mapping) else _MISSING
    return values


def _of_code(repo: "Repo", path: Path, before: str) -> str:
    """Names the modules that differ, if DVC's cache still has the list of the last run."""
    kept = Path(repo.cache.local.oid_to_path(before)) if before else path
    if not kept.exists() or not path.exists():
        return "its code changed"
    old, new = json.loads(kept.read_text()), json.loads(path.read_text())
    changed = [module for module in sorted({*old, *new}) if old.get(module) != new.get(module)]
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"its code changed: {changed[0]}{more}" if changed else "its code changed"
