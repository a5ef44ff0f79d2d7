"""Which trainings and versions stay, and why."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flows.registry.champion import ROLLED_BACK
from flows.tracking.retention import Kept

_OURS = ("genmodel.", "eval.", "mlflow.")
_MODEL, _DATA = "genmodel.model", "genmodel.data"  # a version's tags: digests of DVC's
_DECISION, _PENDING = "genmodel.decision", "pending"


@dataclass
class Reasons:
    """Why each training (by its fingerprint) and each version (by its number) stays; the first reason counts."""

    trainings: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    objects: set[str] = field(default_factory=set)  # of DVC: data and models of the versions

    def keep(self, fingerprints: Iterable[str], why: str) -> None:
        for fingerprint in fingerprints:
            self.trainings.setdefault(fingerprint, why)

    def folder(self, name: str) -> str | None:
        """Why the folder of a training in runs/ stays: it is named by the start of its fingerprint."""
        return next((why for fingerprint, why in self.trainings.items() if fingerprint.startswith(name)), None)


def decide(root: Path, last: int, trainings: Sequence[Kept], versions: Sequence[Kept], named: set[str]) -> Reasons:
    """`last`: how many of the latest trainings stay, whatever they are; `named`: those that git knows by a dvc.lock."""
    found = Reasons()
    found.keep(_of_models(root), "a model of this folder")
    found.keep(named, "in the dvc.lock of a branch or a tag")
    found.keep(_latest(root, last, trainings), f"one of the last {last}")
    found.keep(_unfinished(root), "unfinished: it would go on")
    found.keep((run.fingerprint for run in trainings if run.busy), "at work")
    for version in versions:
        if why := _of_version(version) or found.trainings.get(version.fingerprint):
            found.versions[version.id] = why
            found.keep([version.fingerprint], f"version {version.id}")
            found.objects |= {version.tags[key] for key in (_MODEL, _DATA) if key in version.tags}
    return found


def _of_version(version: Kept) -> str:
    """Why a version stays by itself; empty where it does not."""
    if version.aliases:
        return ", ".join(version.aliases)
    if version.tags.get(_DECISION) == _PENDING:
        return "pending"
    if ROLLED_BACK in version.tags:
        return "rolled back: it must not be promoted again"
    own = [key for key in version.tags if not key.startswith(_OURS)]
    return f"tagged {own[0]}" if own else ""


def _of_models(root: Path) -> list[str]:
    return [found for path in root.glob("models/*/config.json") if (found := _fingerprint(path))]


def _latest(root: Path, last: int, trainings: Sequence[Kept]) -> list[str]:
    """By when MLflow or the folder in runs/ says that they began."""
    began = {run.fingerprint: run.started / 1000 for run in trainings if not run.deleted}
    for path in root.glob("runs/*/identity.json"):
        if fingerprint := _fingerprint(path):
            began[fingerprint] = max(began.get(fingerprint, 0.0), path.stat().st_mtime)
    return sorted(began, key=lambda fingerprint: began[fingerprint])[-last:]


def _unfinished(root: Path) -> list[str]:
    """Of each model the latest training that has checkpoints and did not end."""
    found: dict[str, tuple[float, str]] = {}
    for path in root.glob("runs/*/identity.json"):
        checkpoints = path.parent / "checkpoints"
        if (path.parent / "cost.json").exists() or not checkpoints.is_dir():
            continue
        try:
            told = json.loads(path.read_bytes())
            name, each = str(told["name"]), (checkpoints.stat().st_mtime, str(told["fingerprint"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found[name] = max(found.get(name, each), each)
    return [fingerprint for _, fingerprint in found.values()]


def _fingerprint(path: Path) -> str:
    """Of a config.json or an identity.json; empty where it cannot be read."""
    try:
        return str(json.loads(path.read_bytes())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
