"""What changed between two versions: data, code, settings, figures, and the decisions in between."""

import contextlib
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.registry.history.over_time import what
from flows.registry.lineage import KEPT
from flows.registry.registry import Registry, Version
from flows.tracking.trainings import flatten
from genmodel.errors import ConfigError, TrackingError
from genmodel.params import read_yaml

_COMMITS = 20  # that are listed


@dataclass(frozen=True, kw_only=True)
class State:
    """A version, and what was kept with it."""

    version: Version
    settings: Mapping[str, str]  # params.yaml, "models.vae.training.images" -> "50000"; empty if it was not kept
    data: Mapping[str, str]  # data.dvc likewise

    @classmethod
    def of(cls, registry: Registry, version: Version) -> "State":
        """ModelError if its package is damaged or gone."""
        kept = set(version.tags.get(KEPT, "").split())
        if not kept:
            return cls(version=version, settings={}, data={})
        with registry.package(version) as folder:
            params, data = (
                flatten(read_yaml(folder / "extra_files" / name)) if name in kept else {}
                for name in ("params.yaml", "data.dvc")
            )
        told = {key.removeprefix("meta."): value for key, value in data.items() if key.startswith("meta.")}
        return cls(version=version, settings=params, data=told)

    @property
    def figures(self) -> dict[str, str]:
        return {key.removeprefix("eval."): value for key, value in self.version.tags.items() if key.startswith("eval.")}


def lines(
    registry: Registry, history: Sequence[Mapping[str, Any]], root: Path, since: str, until: str = "champion"
) -> list[str]:
    """The comparison, a line each. `since` and `until`: a day or time (UTC), a version's number, or an alias.

    At a time the version is the one that was champion then. TrackingError if there was none.
    """
    old, new = (_meant(registry, history, asked) for asked in (since, until))
    if old.number == new.number:
        return [f"version {old.number} is the same: nothing to compare"]
    before, after = State.of(registry, old), State.of(registry, new)
    return [
        f"version   {_named(old)} -> {_named(new)}",
        *_data(before, after),
        *_code(root, old.tags.get("genmodel.commit", ""), new.tags.get("genmodel.commit", "")),
        *_section("settings", _changed(before.settings, after.settings), bool(before.settings and after.settings)),
        *_section("figures", _figures(before.figures, after.figures), True),
        *_section("decisions", _decisions(history, old, new), True),
    ]


def _meant(registry: Registry, history: Sequence[Mapping[str, Any]], asked: str) -> Version:
    if asked.isdecimal() or not asked[:1].isdecimal():
        return registry.find(asked)
    try:
        time = datetime.fromisoformat(asked)
    except ValueError as error:
        raise ConfigError(f"{asked} is neither a version nor a time: write 3, champion, or 2026-05-31") from error
    time = time if time.tzinfo else time.replace(tzinfo=UTC)
    if len(asked) == len("2026-05-31"):  # at its end
        time = time.replace(hour=23, minute=59, second=59, microsecond=999_999)
    then = [event for event in history if datetime.fromisoformat(event["time"]) <= time]
    champion = then[-1]["after"]["champion"] if then else None
    if champion is None:
        since = f": the first decision is of {history[0]['time'][:16]} UTC" if history and not then else ""
        raise TrackingError(f"nobody was champion at {asked}{since}")
    return registry.find(champion["version"])


def _named(version: Version) -> str:
    return f"{version.number}, {version.tags.get('genmodel.name', '?')}"


def _data(before: State, after: State) -> list[str]:
    old, new = (state.version.tags.get("genmodel.data", "?") for state in (before, after))
    if old == new:
        return [f"data      the same, {old[:12]}"]
    return [f"data      {old[:12]} -> {new[:12]}", *(f"          {line}" for line in _changed(before.data, after.data))]


def _code(root: Path, old: str, new: str) -> list[str]:
    if not (old and new):
        return ["code      not known: a version was made outside git"]
    if old == new:
        return [f"code      the same, {old[:12]}"]
    done = None
    with contextlib.suppress(FileNotFoundError):
        done = subprocess.run(
            ["git", "-C", str(root), "log", "--oneline", f"{old}..{new}"], capture_output=True, text=True
        )
    if done is None or done.returncode:
        return [f"code      {old[:12]} -> {new[:12]}, whose commits are not here: git fetch --all"]
    commits = done.stdout.splitlines()
    more = [f"          and {len(commits) - _COMMITS} more"] if len(commits) > _COMMITS else []
    told = f"code      {old[:12]} -> {new[:12]}, {len(commits)} commit{'s' if len(commits) != 1 else ''}"
    return [told, *(f"          {commit}" for commit in commits[:_COMMITS]), *more]


def _section(name: str, found: Sequence[str], known: bool) -> list[str]:
    if not known:
        return [f"{name:<10}not known: a version was registered before its params.yaml was kept with it"]
    return [f"{name:<10}{found[0]}", *(f"{'':<10}{line}" for line in found[1:])] if found else [f"{name:<10}the same"]


def _changed(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return [f"{key}: {old.get(key, '-')} -> {new.get(key, '-')}" for key in sorted(keys)]


def _figures(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    told = []
    for line, key in ((line, line.partition(": ")[0]) for line in _changed(old, new)):
        share = ""
        with contextlib.suppress(KeyError, ValueError, ZeroDivisionError):
            share = f" ({float(new[key]) / float(old[key]) - 1:+.1%})"
        told.append(f"{line}{share}")
    return [*told, "each as judged when it was registered"] if told else []


def _decisions(history: Sequence[Mapping[str, Any]], old: Version, new: Version) -> list[str]:
    """How many of each kind, from the one that made the old version champion to the one that made the new one."""
    crowned: dict[str, int] = {}
    for place, event in enumerate(history):
        champion = event["after"]["champion"]
        if champion and champion != event["before"]:
            crowned[champion["version"]] = place
    if not {old.number, new.number} <= crowned.keys():
        return []
    first, last = sorted((crowned[old.number], crowned[new.number]))
    count = Counter(what(event) for event in history[first + 1 : last + 1])
    return [", ".join(f"{number} {kind}" for kind, number in sorted(count.items()))]
