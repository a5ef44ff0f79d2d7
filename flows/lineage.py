"""Where a version comes from: model version -> MLflow's run -> git commit -> dvc.lock -> data; and the way back."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

from flows import versioning
from flows.registry import Registry, Version
from genmodel.errors import VersioningError


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The chain of one version. Digests are DVC's, of folders: 32 hexadecimal digits and ".dir"."""

    version: Version
    name: str  # of the model in params.yaml
    trained_at: str  # the commit that was checked out when it was trained
    changed: bool  # whether files differed from that commit
    locked_at: str | None  # the first commit whose dvc.lock and data.dvc name this model and its data
    data: str
    model: str | None  # models/NAME in dvc.lock; None where the version was not registered by `dvc repro`
    commands: list[str]

    def lines(self) -> list[str]:
        """The chain, a line a link, and the commands that restore it."""
        locked = self.locked_at or "in no commit: dvc.lock was not committed after the training"
        warning = ", and files differed from it: train again from what was not committed" if self.changed else ""
        return [
            f"version   {self.version.number}, {self.name}, weights {self.version.tags['genmodel.weights'][:16]}",
            f"run       {self.version.run_id}, training {self.version.tags['genmodel.fingerprint'][:16]}",
            f"commit    {self.trained_at}{'' if self.locked_at else warning}",
            f"dvc.lock  {locked}",
            f"model     {self.model or 'not named by a dvc.lock'}",
            f"data      {self.data}",
            "",
            *self.commands,
        ]


def trace(registry: Registry, root: Path, number_or_alias: str) -> Lineage:
    """Follow a version of `registry` back through the project in `root`; VersioningError where the chain breaks."""
    version = registry.find(number_or_alias)
    run = registry.run_tags(version)
    data, model = version.tags["genmodel.data"], version.tags.get("genmodel.model")
    name = version.tags.get("genmodel.name") or run["model"]
    trained_at = run.get("mlflow.source.git.commit")
    if trained_at is None:
        raise VersioningError(f"version {version.number} was trained outside a git repository: no commit to restore")
    locked_at = _locked_at(root, name, model, data) if model else None
    commit = locked_at or trained_at
    if _show(root, commit, "dvc.yaml") is None:
        raise VersioningError(f"{root} has no commit {commit}: fetch it (git fetch --all), then ask again")
    return Lineage(
        version=version,
        name=name,
        trained_at=trained_at,
        changed=run.get("genmodel.git_dirty") == "true",
        locked_at=locked_at,
        data=data,
        model=model,
        commands=[
            f"git worktree add --detach ../{root.name}-version-{version.number} {commit}",
            f"cd ../{root.name}-version-{version.number}",
            *versioning.restore_commands(root, f"train@{name}", data, model if locked_at else None),
        ],
    )


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
        raise VersioningError(f"git {arguments[0]} in {root}: {' '.join(error.stderr.split())}") from error
    return done.stdout
