"""Where a version comes from: model version -> MLflow's run -> git commit -> dvc.lock -> data; and the way back."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

from flows.registry.registry import Registry, Version
from flows.tracking.trainings import git_trouble
from flows.versioning import dvc as versioning
from genmodel.errors import VersioningError
from genmodel.files import durable

KEPT = "genmodel.kept"  # a version's tag: the names of FILES that are in its package, separated by spaces
FILES = ("params.yaml", "dvc.yaml", "dvc.lock", "data.dvc")  # nothing commits them in unattended runs


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The chain of one version. Digests are DVC's, of folders: 32 hexadecimal digits and ".dir"."""

    version: Version
    name: str  # of the model in params.yaml
    trained_at: str | None  # the commit that was checked out when it was trained
    trouble: str  # why it is not known
    changed: list[str]  # files that differed from that commit and are not kept with the version
    locked_at: str | None  # the first commit whose dvc.lock and data.dvc name this model and its data
    kept: list[str]  # names of files that are kept with the version
    data: str
    model: str | None  # models/NAME in dvc.lock; None where the version was not registered by `dvc repro`
    commands: list[str]

    def lines(self) -> list[str]:
        """The chain, one line per link, and the commands that restore it."""
        kept = f"kept with the version: {', '.join(self.kept)}" if self.kept else ""
        locked = self.locked_at or kept or "in no commit: dvc.lock was not committed after the training"
        warning = f", and these differed from it: {', '.join(self.changed)}" if self.changed else ""
        return [
            f"version   {self.version.number}, {self.name}, weights {self.version.tags['genmodel.weights'][:16]}",
            f"run       {self.version.run_id}, training {self.version.tags['genmodel.fingerprint'][:16]}",
            f"commit    {self.trained_at or f'not known: {self.trouble}'}{'' if self.locked_at else warning}",
            f"dvc.lock  {locked}",
            f"model     {self.model or 'not named by a dvc.lock'}",
            f"data      {self.data}",
            "",
            *self.commands,
        ]


def trace(registry: Registry, root: Path, number_or_alias: str) -> Lineage:
    """Follow a version of `registry` back through the project in `root`; VersioningError where the chain breaks.

    All of it is in the version's own tags; for older versions, in the tags of its run.
    """
    version = registry.find(number_or_alias)
    tags = version.tags
    run = registry.run_tags(version)
    data, model, kept = tags["genmodel.data"], tags.get("genmodel.model"), tags.get(KEPT, "").split()
    name = tags.get("genmodel.name") or run.get("model", "?")
    trained_at = tags.get("genmodel.commit") or run.get("mlflow.source.git.commit")
    locked_at = _locked_at(root, name, model, data) if model and trained_at else None
    commit = locked_at or trained_at
    if commit is None and not kept:
        why = tags.get("genmodel.git") or ("" if run else "its run is gone from MLflow (mlflow gc)")
        raise VersioningError(f"version {version.number}: no commit is known to restore from: {why or 'no git'}")
    if commit and _show(root, commit, "dvc.yaml") is None:
        raise VersioningError(f"{root} has no commit {commit}: fetch it (git fetch --all), then ask again")
    named = model if locked_at or "dvc.lock" in kept else None
    return Lineage(
        version=version,
        name=name,
        trained_at=trained_at,
        trouble=tags.get("genmodel.git") or run.get("genmodel.git", "its run does not say why"),
        changed=_changed({**run, **tags}, kept),
        locked_at=locked_at,
        kept=kept,
        data=data,
        model=model,
        commands=_commands(root, version.number, commit, kept, f"train@{name}", data, named),
    )


def restore_files(registry: Registry, number_or_alias: str, folder: Path) -> list[str]:
    """Write into `folder` what is kept with a version (FILES); returns their names. VersioningError if nothing is."""
    version = registry.find(number_or_alias)
    names = version.tags.get(KEPT, "").split()
    if not names:
        raise VersioningError(f"version {version.number} was registered before dvc.lock and settings were kept with it")
    with registry.package(version) as package:
        for name in names:
            durable.write_bytes(folder / name, (package / "extra_files" / name).read_bytes())
    return names


def _commands(
    root: Path, number: str, commit: str | None, kept: list[str], stage: str, data: str, model: str | None
) -> list[str]:
    place = quote(f"../{root.name}-version-{number}")
    files = [f"python -m flows.registry files {number} {place}"] if kept else []
    if commit:
        made = [f"git worktree add --detach {place} {commit}", *files, f"cd {place}"]
    else:  # data and weights need no code
        made = [f"mkdir {place}", *files, f"cd {place}", "dvc init --quiet --no-scm"]
    return [*made, *versioning.restore_commands(root, stage, data, model)]


def _changed(tags: dict[str, str], kept: list[str]) -> list[str]:
    if "genmodel.git_changed" in tags:
        return [name for name in json.loads(tags["genmodel.git_changed"]) if name not in kept]
    return ["what was not committed"] if tags.get("genmodel.git_dirty") == "true" else []


def _locked_at(root: Path, name: str, model: str, data: str) -> str | None:
    """The first commit that names both digests, on any branch."""
    for commit in _git(root, "log", "--all", "--reverse", "--format=%H", "-S", model, "--", "dvc.lock").split():
        lock, data_file = _show(root, commit, "dvc.lock"), _show(root, commit, "data.dvc")
        if lock and data_file and versioning.outs(lock).get(f"models/{name}") == model and data in data_file:
            return commit
    return None


def _show(root: Path, commit: str, name: str) -> str | None:
    try:
        return _git(root, "show", f"{commit}:{name}")
    except VersioningError:
        return None


def _git(root: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True)
    except FileNotFoundError as error:
        raise VersioningError("git is not installed: lineage reads its commits") from error
    except subprocess.CalledProcessError as error:
        why = git_trouble(root) or f"git {arguments[0]} in {root}: {' '.join(error.stderr.split())}"
        raise VersioningError(why) from error
    return done.stdout
