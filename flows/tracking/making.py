"""Logged models of registrations that were killed: found by the tags that they carry while they are made, and removed.

model = client.create_logged_model(experiment_id, name, run_id, {**tags, **making_tags()})
...                                       # its files, READY, the version that is made of it
made(client, model.model_id)
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from flows.tracking.lease import LEASE, OWNER, Lease, Owner, is_abandoned
from flows.tracking.runs import Tracker
from genmodel.output.progress import say

if TYPE_CHECKING:
    from mlflow import MlflowClient


def making_tags() -> dict[str, str]:
    """The tags of a logged model that this process makes."""
    return Lease(Owner.here()).tags()


def made(client: "MlflowClient", model_id: str) -> None:
    """Take the tags away, when a version of the registry is made of the logged model."""
    for key in (OWNER, LEASE):
        client.delete_logged_model_tag(model_id, key)


def remove_half_made(tracker: Tracker) -> None:
    """Remove the logged models that nobody goes on making and that no version is made of, with their files.

    A server keeps the files until `mlflow gc`. Call it under the lock of the registry.
    """
    with tracker.talking() as (client, experiment_id):
        for model in client.search_logged_models([experiment_id], f"tags.`{OWNER}` != ''"):
            if not is_abandoned(model.tags):
                continue
            if client.search_model_versions(f"source_path = 'models:/{model.model_id}'"):
                made(client, model.model_id)
                continue
            _remove_files(model.artifact_location, tracker.settings.artifacts)
            client.delete_logged_model(model.model_id)
            say(f"removed the model {model.model_id} from MLflow: its registration was killed on the way")


def _remove_files(location: str, artifacts: Path | None) -> None:
    """Those of a folder in this project; the rest is left to `mlflow gc`."""
    folder = Path(unquote(urlsplit(location).path))
    if artifacts is not None and location.startswith("file:") and artifacts in folder.parents:
        shutil.rmtree(folder, ignore_errors=True)
