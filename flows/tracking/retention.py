"""Which trainings and versions MLflow holds, and their removal, files and rows, for good."""

import contextlib
import sqlite3
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from flows.tracking.lease import OWNER, is_abandoned
from flows.tracking.runs import Tracker
from flows.tracking.store import database_file

_ALL = 3  # mlflow.entities.ViewType.ALL
_PAGE = 200
# what MLflow leaves of a run and of a version that it has deleted
_GONE = "destination_type = 'RUN' and destination_id not in (select run_uuid from runs)"
_LEFT = (
    "delete from model_version_tags where (workspace, name, version) in "
    "(select workspace, name, version from model_versions where current_stage = 'Deleted_Internal')",
    # not the last one: the next version would get its number again
    "delete from model_versions where current_stage = 'Deleted_Internal' and version < "
    "(select max(version) from model_versions as other where other.name = model_versions.name)",
    f"delete from input_tags where input_uuid in (select input_uuid from inputs where {_GONE})",
    f"delete from inputs where {_GONE}",
)


@dataclass(frozen=True)
class Kept:
    """A training, or a version of the registered model, as MLflow has it."""

    id: str  # of the run, or the version's number
    fingerprint: str
    tags: Mapping[str, str]
    started: int = 0  # unix milliseconds
    aliases: tuple[str, ...] = ()
    place: str = ""  # of its files
    busy: bool = False  # a living process follows it
    deleted: bool = False  # by someone in MLflow's pages, or as a twin


def trainings(tracker: Tracker) -> list[Kept]:
    """The runs of the experiment that the line has made, deleted ones too."""
    with tracker.talking() as (client, experiment):
        return [
            Kept(
                id=run.info.run_id,
                fingerprint=run.data.tags["genmodel.fingerprint"],
                tags=run.data.tags,
                started=run.info.start_time or 0,
                place=run.info.artifact_uri,
                busy=run.info.status == "RUNNING" and not is_abandoned(run.data.tags),
                deleted=run.info.lifecycle_stage == "deleted",
            )
            for run in _pages(client.search_runs, [experiment], "", _ALL, _PAGE)
            if "genmodel.fingerprint" in run.data.tags
        ]


def versions(tracker: Tracker) -> list[Kept]:
    """The versions of the project's registered model."""
    name = tracker.settings.registered_name
    with tracker.talking() as (client, _):
        models = client.search_registered_models(f"name = '{name}'")
        aliases = models[0].aliases.items() if models else ()
        return [
            Kept(
                id=str(found.version),
                fingerprint=found.tags.get("genmodel.fingerprint", ""),
                tags=found.tags,
                started=found.creation_timestamp or 0,
                aliases=tuple(sorted(alias for alias, number in aliases if str(number) == str(found.version))),
            )
            for found in _pages(client.search_model_versions, f"name = '{name}'", _PAGE)
        ]


def remove_version(tracker: Tracker, number: str) -> None:
    """Its package goes with `remove_packages`."""
    with tracker.talking() as (client, _):
        client.delete_model_version(tracker.settings.registered_name, number)


def packages(tracker: Tracker, kept: Collection[str]) -> list[Kept]:
    """The logged models that the line has made of trainings, and that no version is made of but those not `kept`.

    `kept` are numbers of versions. Versions of other registered models keep theirs. One that is being made is left out.
    """
    name = tracker.settings.registered_name
    with tracker.talking() as (client, experiment):
        found = []
        for model in _pages(client.search_logged_models, [experiment], max_results=_PAGE):
            if "genmodel.fingerprint" not in model.tags or (OWNER in model.tags and not is_abandoned(model.tags)):
                continue
            users = client.search_model_versions(f"source_path = 'models:/{model.model_id}'")
            if any(each.name != name or str(each.version) in kept for each in users):
                continue
            found.append(
                Kept(model.model_id, model.tags["genmodel.fingerprint"], model.tags, place=model.artifact_location)
            )
        return found


def used_runs(tracker: Tracker, kept: Collection[str]) -> set[str]:
    """The runs that the versions `kept` and those of other registered models come from."""
    name = tracker.settings.registered_name
    with tracker.talking() as (client, _):
        found = _pages(client.search_model_versions, "", _PAGE)
        return {each.run_id for each in found if each.name != name or str(each.version) in kept}


def remove_package(tracker: Tracker, model: Kept) -> None:
    _remove_files(tracker, model.place)
    with tracker.talking() as (client, _):
        if (store := _store(tracker)) is None:
            client.delete_logged_model(model.id)
        else:
            store._hard_delete_logged_model(model.id)


def remove_training(tracker: Tracker, run: Kept) -> None:
    """Files first: after a kill the run is still there, and the next time it goes."""
    _remove_files(tracker, run.place)
    with tracker.talking() as (client, _):
        if (store := _store(tracker)) is not None:
            store._hard_delete_run(run.id)
        elif not run.deleted:
            client.delete_run(run.id)


def finish(tracker: Tracker) -> None:
    """Remove the rows that MLflow leaves behind, and give the room in its file back, if no one is reading it."""
    if (path := database_file(tracker.settings)) is not None:
        with contextlib.closing(sqlite3.connect(path, timeout=10)) as connection:
            for statement in _LEFT:
                connection.execute(statement)
            connection.commit()
            with contextlib.suppress(sqlite3.OperationalError):  # in use: the pages are free all the same
                connection.execute("vacuum")


def size(tracker: Tracker, place: str) -> int:
    """Bytes of the files of a run or a package; 0 where they are not in the project."""
    folder = _folder(tracker, place)
    return 0 if folder is None else sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def is_there(tracker: Tracker) -> bool:
    """Whether there can be anything in MLflow; asking it would make its file."""
    path = database_file(tracker.settings)
    return path is None or path.exists()


def is_shared(tracker: Tracker) -> bool:
    """Whether MLflow is a server or a database that other clones may use, too."""
    return database_file(tracker.settings) is None


def _pages(search: Any, *words: Any, **named: Any) -> Iterator[Any]:
    token = None
    while True:
        found = search(*words, **named, page_token=token)
        yield from found
        if not (token := found.token):
            return


def _store(tracker: Tracker) -> Any:
    """What `mlflow gc` uses; None where only a server can delete for good."""
    if tracker.settings.served:
        return None
    from mlflow.tracking._tracking_service.utils import _get_store

    return _get_store(tracker.settings.tracking_uri)


def _folder(tracker: Tracker, place: str) -> Path | None:
    folder = Path(unquote(urlsplit(place).path))
    artifacts = tracker.settings.artifacts
    return folder if place.startswith("file:") and artifacts is not None and artifacts in folder.parents else None


def _remove_files(tracker: Tracker, place: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    folder = _folder(tracker, place)
    if folder is None or folder.exists():
        with tracker.talking():
            get_artifact_repository(place).delete_artifacts()
    if (
        folder is not None
        and folder.name == "artifacts"
        and folder.parent.exists()
        and not any(folder.parent.iterdir())
    ):
        folder.parent.rmdir()
