"""Finds what may go, shows it, and removes it. Whatever is removed on the way to a kill was of no use by itself."""

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from flows.costs import ledger
from flows.gc import history
from flows.gc.keep import Reasons, decide
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking import retention as mlflow
from flows.tracking.retention import Kept
from flows.versioning import retention as dvc
from genmodel.errors import StorageError
from genmodel.files import durable

if TYPE_CHECKING:
    from flows.versioning.retention import Repo

LAST = 30  # trainings, and flow runs in Prefect, that stay whatever they are
_CACHES = ("features", "thumbs")  # in runs/: made again when they are needed
_MEMORY = timedelta(days=400)  # of the ledger of costs: a month can be compared with the same one a year ago


@dataclass(frozen=True)
class Row:
    """One kind of thing."""

    what: str
    kept: int
    freed: int
    size: int | None = None  # bytes that are freed; None where that is not known
    why: str = ""  # some are kept, or none is freed


def collect(settings: Settings, last: int = LAST, remote: str | None = None, dry: bool = False) -> Iterator[Row]:
    """Remove what nothing needs, kind by kind, each once it is removed; with `dry` only say it.

    The caller holds locks.project. `remote`: a DVC remote to clean, too. LockConflictError where DVC is at work.
    """
    with dvc.held(settings.root) as repo:
        tracker = Tracker(settings)
        shared = mlflow.is_shared(tracker)
        known = mlflow.is_there(tracker)
        trainings, versions = (mlflow.trainings(tracker), mlflow.versions(tracker)) if known else ([], [])
        named = dvc.trainings(repo, dvc.needed(repo, ()))
        reasons = decide(settings.root, last, trainings, versions, named)
        yield from _caches(settings.root, last, dry)
        yield from _folders(settings.root, reasons, dry)
        yield from _objects(repo, reasons, remote, dry)
        if shared:
            yield Row("MLflow runs", len(trainings), 0, why="a server's, which others may share: clean it up there")
        elif known:
            yield from _mlflow(tracker, trainings, versions, reasons, dry)
        yield from _prefect(settings, last, dry)
        yield from _ledger(settings.root, dry)


def _folders(root: Path, reasons: Reasons, dry: bool) -> Iterator[Row]:
    kept: Counter[str] = Counter()
    freed: list[int] = []
    for left in root.glob("runs/.*.gone"):  # by a kill
        if not dry:
            shutil.rmtree(left)
    for folder in sorted(path.parent for path in root.glob("runs/*/identity.json")):
        why = reasons.folder(folder.name)
        if why is None:
            with contextlib.suppress(StorageError), durable.sole(folder.with_name(f"{folder.name}.lock"), "at work"):
                freed.append(_size(folder))
                if not dry:
                    durable.remove_folder(folder)
                continue
            why = "at work"
        kept[why] += 1
    yield Row("trainings in runs/", kept.total(), len(freed), sum(freed), _told(kept))


def _caches(root: Path, last: int, dry: bool) -> Iterator[Row]:
    """What is older than the last trainings."""
    began = sorted(path.stat().st_mtime for path in root.glob("runs/*/identity.json"))[-last:]
    found = [path for name in _CACHES for path in root.glob(f"runs/{name}/*") if path.is_file()]
    old = [path for path in found if len(began) == last and path.stat().st_mtime < began[0]]
    size = sum(path.stat().st_size for path in old)
    for path in () if dry else old:
        path.unlink()
    yield Row("features, thumbnails", len(found) - len(old), len(old), size, "not older than the last trainings")


def _objects(repo: "Repo", reasons: Reasons, remote: str | None, dry: bool) -> Iterator[Row]:
    needed = dvc.needed(repo, reasons.objects)
    why = "named by a branch, a tag, this folder or a version that stays"
    places: list[tuple[str, str | None]] = [("DVC's cache", None)] if dvc.is_own(repo) else []
    if not places:
        yield Row("DVC's cache", 0, 0, why="it lies outside of the project, others may use it: `dvc gc --projects`")
    if remote is not None:
        name = dvc.remote_name(repo, remote)
        places.append((f"DVC's remote {name}", name))
    for what, place in places:
        kept, found = dvc.unneeded(repo, needed, place)
        if not dry:
            dvc.remove(repo, (path for path, _ in found), place)
        yield Row(what, kept, len(found), sum(size for _, size in found), why)
    if dvc.is_own(repo):
        stale = dvc.stale_runs(repo, needed)
        size = sum(path.stat().st_size for path in stale)
        for path in () if dry else stale:
            path.unlink()
            with contextlib.suppress(OSError):  # the folders above, if nothing else is in them
                path.parent.rmdir()
                path.parent.parent.rmdir()
        yield Row("DVC's run cache", 0, len(stale), size, "what can be restored")


def _mlflow(
    tracker: Tracker, trainings: list[Kept], versions: list[Kept], reasons: Reasons, dry: bool
) -> Iterator[Row]:
    with tracker.locked("registry"):
        old = [version for version in versions if version.id not in reasons.versions]
        for version in () if dry else old:
            mlflow.remove_version(tracker, version.id)
        kept = _told(Counter(reasons.versions.values()))
        yield Row("versions in MLflow", len(reasons.versions), len(old), why=kept)

        packages = mlflow.packages(tracker, reasons.versions)
        size = sum(mlflow.size(tracker, model.place) for model in packages)
        for model in () if dry else packages:
            mlflow.remove_package(tracker, model)
        yield Row("packages in MLflow", len(reasons.versions), len(packages), size, "of a version that stays")

        used = mlflow.used_runs(tracker, reasons.versions)
        gone = [run for run in trainings if run.deleted or (run.fingerprint not in reasons.trainings and not run.busy)]
        gone = [run for run in gone if run.id not in used]
        size = sum(mlflow.size(tracker, run.place) for run in gone)
        for run in () if dry else gone:
            mlflow.remove_training(tracker, run)
        stays = {run.id: reasons.trainings.get(run.fingerprint, "a version's") for run in trainings if run not in gone}
        yield Row("runs in MLflow", len(stays), len(gone), size, _told(Counter(stays.values())))
    if not dry and (old or packages or gone):
        mlflow.finish(tracker)


def _prefect(settings: Settings, last: int, dry: bool) -> Iterator[Row]:
    home = Path(settings.environment["PREFECT_HOME"])
    if not (home / "prefect.db").exists():
        return
    if settings.root in home.parents:
        project = ""  # all are its own, also those from before it was moved
    else:
        from flows.running import orphans

        project = orphans.project(settings.root)
    kept, old = history.old(home, project, last)
    before = (home / "prefect.db").stat().st_size
    if old and not dry:
        history.remove(home, old)
    size = None if dry else max(0, before - (home / "prefect.db").stat().st_size)
    yield Row("runs in Prefect", kept, len(old), size, f"one of the last {last}, or at work")


def _ledger(root: Path, dry: bool) -> Iterator[Row]:
    lines = ledger.read(root)
    since = datetime.now(UTC) - _MEMORY
    old = [line for line in lines if line.time < since]
    if old and not dry:
        ledger.forget(root, since)
    yield Row("lines of costs", len(lines) - len(old), len(old), why=f"of the last {_MEMORY.days} days")


def _told(kept: "Counter[str]") -> str:
    return "; ".join(f"{count} {why}" for why, count in kept.most_common())


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def total(rows: Iterable[Row]) -> int:
    return sum(row.size or 0 for row in rows)
