"""The registry of models: equal weights are one version; aliases say which one is champion, candidate, previous.

python -m flows.registry history | approve VERSION | refuse VERSION | rollback | retire
python -m flows.registry lineage VERSION | files VERSION DIR | verify VERSION
"""

import contextlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.registry.description import DESCRIPTION, Card, version_tags, with_champion
from flows.registry.history.events import events_of
from flows.registry.packaging import CURE, PACKAGE, digest, exported, in_words, package, try_out, verify
from flows.running.scratch import scratch
from flows.telling import of_run
from flows.tracking import Tracker, Turn, database_file, fetch, made, making_tags, remove_half_made
from genmodel.errors import ModelError, TrackingError
from genmodel.files import durable
from genmodel.files.model_folder import read_config

if TYPE_CHECKING:
    import numpy as np

    from genmodel.models.contract import Family
    from genmodel.sampling.draw import ExportedGraph

CHAMPION, CANDIDATE, PREVIOUS, PENDING = "champion", "candidate", "previous", "pending"
_ALL_RUNS = 3  # mlflow.entities.ViewType.ALL: deleted ones, too, until `mlflow gc`


@dataclass(frozen=True)
class Version:
    """A version of the registered model."""

    number: str
    run_id: str
    tags: Mapping[str, str]  # genmodel.fingerprint, .weights, .family, .data; eval.* figures


class Registry:
    """The versions of the project's registered model in the tracker's MLflow."""

    def __init__(self, tracker: Tracker) -> None:
        self.tracker = tracker
        self._name = tracker.settings.registered_name
        self._turn: Turn | None = None
        self._drawn: dict[str, np.ndarray] = {}  # images of packages that loaded in this process, by their digests

    def register(
        self,
        folder: Path,
        model: "Family",
        card: Card,
        kept: Sequence[Path] = (),
    ) -> Version:
        """Register the finished model in `folder`, once for equal weights. Its training must have a run.

        `model` is what lies in the folder; beside its graph lie weights.safetensors, config.json, report.json, card.md
        and the files `kept`. The card is shown as the version's description. ModelError, and nothing registered, where
        the model cannot be exported.
        """
        described = read_config(folder)
        weights = folder / "weights.safetensors"
        with self.tracker.talking() as (client, experiment_id), self.tracker.locked("registry"):
            remove_half_made(self.tracker)
            if known := self._only(client, described["weights"]):
                return known
            run = self.tracker.run(described["fingerprint"])
            needed = 5 * weights.stat().st_size + (4 << 20)  # graph and weights, here and in the artifacts
            with scratch(self.tracker.settings.root, needed) as place:
                told, packed = place / "report.json", place / "model"
                durable.write_json(told, card.report.as_dict())
                files = card.write(place / "card")
                named = zip(described["classes"], described["class_counts"], strict=True) if model.classes else ()
                beside = [weights, folder / "config.json", told, *files, *kept]
                drawn = package(packed, model, described["name"], dict(named), self.tracker.settings, beside)
                tags = {**version_tags(described, card.report, run.data.tags), **card.tags, PACKAGE: digest(packed)}
                self._drawn[tags[PACKAGE]] = drawn
                marked = {**tags, **making_tags()}
                logged = client.create_logged_model(experiment_id, described["name"], run.info.run_id, marked)
                client.log_model_artifacts(logged.model_id, str(packed))
                client.log_artifacts(run.info.run_id, str(place / "card"), "card")
            client.finalize_logged_model(logged.model_id, "READY")
            if not client.search_registered_models(f"name = '{self._name}'"):
                client.create_registered_model(self._name, description=DESCRIPTION.format(name=self._name))
            source, shown = f"models:/{logged.model_id}", card.described(run.info.run_id)
            version = client.create_model_version(
                self._name, source, run.info.run_id, tags, description=shown, model_id=logged.model_id
            )
            made(client, logged.model_id)
            return self._only(client, described["weights"]) or _version(version)

    def _only(self, client: Any, weights: str) -> Version | None:
        """The oldest version of these weights; duplicates without an alias are removed.

        Two machines that share a server may both find none and both make one: the lock is a project's.
        """
        found = client.search_model_versions(f"name = '{self._name}' and tags.`genmodel.weights` = '{weights}'")
        if not found:
            return None
        oldest, *twins = sorted(found, key=lambda version: int(version.version))
        used = set(client.search_registered_models(f"name = '{self._name}'")[0].aliases.values()) if twins else set()
        for twin in (twin for twin in twins if str(twin.version) not in {str(number) for number in used}):
            with contextlib.suppress(TrackingError), self.tracker.talking():  # its own maker may have been quicker
                client.delete_model_version(self._name, twin.version)
                client.delete_logged_model(twin.model_id)
        return _version(oldest)

    def version(self, alias: str) -> Version | None:
        """The version with an alias (CHAMPION, CANDIDATE, PREVIOUS), or None."""
        with self.tracker.talking() as (client, _):
            found = client.search_registered_models(f"name = '{self._name}'")
            if not found or alias not in found[0].aliases:
                return None
            return _version(client.get_model_version_by_alias(self._name, alias))

    def numbered(self, number: str) -> Version | None:
        """The version with a number, or None."""
        if not number.isdecimal():
            return None
        with self.tracker.talking() as (client, _):
            found = client.search_model_versions(f"name = '{self._name}' and version_number = {number}")
            return _version(found[0]) if found else None

    def find(self, number_or_alias: str) -> Version:
        """The version that a person means; TrackingError if there is none."""
        version = self.numbered(number_or_alias) or self.version(number_or_alias)
        if version is None:
            raise TrackingError(
                f"{self._name} has no version {number_or_alias}: give a number, or an alias as champion"
            )
        return version

    @contextlib.contextmanager
    def package(self, version: Version) -> Iterator[Path]:
        """The package of a version, in a temporary folder; ModelError if it is gone or not what was registered.

        None of its code has run by then. TrackingError if MLflow fails to deliver it, which says nothing about the
        model.
        """
        with scratch(self.tracker.settings.root) as folder:
            with self.tracker.talking() as (client, _):
                source = client.get_model_version_download_uri(self._name, version.number)
                try:
                    fetch(source, folder, self.tracker.settings)
                except ModelError as error:
                    raise ModelError(f"{self._called(version)} is gone: {error}; {CURE}") from error
            self._verify(folder, version)
            yield folder

    def verify(self, version: Version) -> bool:
        """ModelError if a version's package is damaged; False if it is so old that only its weights are verified."""
        with self.package(version) as folder:
            return self._verify(folder, version)

    def _verify(self, folder: Path, version: Version) -> bool:
        return verify(folder, version.tags, self._called(version))

    def _called(self, version: Version) -> str:
        return f"version {version.number} of {self._name}"

    def download(self, version: Version, folder: Path) -> None:
        """Fetch weights.safetensors, config.json, report.json, the card and whatever else is kept with a version."""
        with self.package(version) as package:
            shutil.copytree(package / "extra_files", folder, dirs_exist_ok=True)

    def try_out(self, version: Version) -> str:
        """Fetch a version, load it as anyone would and draw images with it; returns what it did in words.

        The same bytes are loaded once in a process. ModelError if that fails, or if its package is gone or not what was
        registered; TrackingError if MLflow fails to deliver it, which says nothing about the model.
        """
        with self.package(version) as folder:
            drawn = self._drawn.get(version.tags.get(PACKAGE, ""))
            if drawn is not None:
                return in_words(drawn, self._called(version))
            return try_out(folder, self._called(version), self.tracker.settings)

    @contextlib.contextmanager
    def exported(self, version: Version, device: str) -> Iterator["ExportedGraph"]:
        """The exported graph of a version, which draws images without its family's code; errors as for `try_out`."""
        with self.package(version) as folder:
            family = version.tags.get("genmodel.family", "")
            yield exported(folder, family, self._called(version), self.tracker.settings, device)

    def run_tags(self, version: Version) -> dict[str, str]:
        """The tags of the run that a version comes from: commit, data, training; none if the run is gone."""
        with self.tracker.talking() as (client, experiment_id):
            query = f"attributes.run_id = '{version.run_id}'"
            found = client.search_runs([experiment_id], query, _ALL_RUNS)
            return dict(found[0].data.tags) if found else {}

    def has_runs(self, fingerprints: Iterable[str]) -> bool:
        """Whether each of these trainings has a finished run here, with an outcome."""
        with self.tracker.talking() as (client, experiment_id):
            told = "attributes.status = 'FINISHED' and tags.`genmodel.outcome` != 'trained'"
            queries = [f"{told} and tags.`genmodel.fingerprint` = '{each}'" for each in fingerprints]
            return all(client.search_runs([experiment_id], query, max_results=1) for query in queries)

    def set_outcome(self, number: str, outcome: str) -> None:
        """Tag the run that a version comes from, if it is still there, with what became of its model."""
        version = self.numbered(number)
        with self.tracker.talking() as (client, experiment_id):
            query = f"attributes.run_id = '{version.run_id if version else ''}'"
            for run in client.search_runs([experiment_id], query):
                self.tracker.tag(run.info.run_id, of_run.with_outcome(run.data.tags, outcome))

    def crowned(self, former: Mapping[str, str] | None, outcome: str) -> None:
        """Tell who is champion, as `describe` does and in the champion's run; and in that of the `former` one, what
        became of it."""
        if former:
            self.set_outcome(former["version"], outcome)
        if champion := self.version(CHAMPION):
            self.set_outcome(champion.number, "promoted")
        self.describe()

    def describe(self) -> None:
        """Let the registered model's description begin with the champion."""
        champion = self.version(CHAMPION)
        with self.tracker.talking() as (client, _):
            told = client.get_registered_model(self._name).description or ""
            numbered = (champion.number, champion.tags) if champion else None
            client.update_registered_model(self._name, with_champion(told, self._name, numbered))

    def events(self) -> list[dict[str, Any]]:
        """The decisions about all versions, the oldest first, whichever project made them."""
        found: list[dict[str, Any]] = []
        with self.tracker.talking() as (client, _):
            token = None
            while token != "":
                page = client.search_model_versions(f"name = '{self._name}'", page_token=token)
                found += [event for version in page for event in events_of(version.tags)]
                token = page.token or ""
        return sorted(found, key=lambda event: str(event["time"]))

    def set_alias(self, alias: str, number: str) -> None:
        with self.tracker.talking() as (client, _):
            client.set_registered_model_alias(self._name, alias, number)

    def drop_alias(self, alias: str) -> None:
        with self.tracker.talking() as (client, _):
            client.delete_registered_model_alias(self._name, alias)

    def tag(self, number: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version; None takes one away."""
        with self.tracker.talking() as (client, _):
            for key, value in tags.items():
                if value is None:
                    client.delete_model_version_tag(self._name, number, key)
                else:
                    client.set_model_version_tag(self._name, number, key, value)

    def noted(self, key: str) -> str | None:
        """What was noted under `key`, a tag of the registered model; None where nothing was."""
        with self.tracker.talking() as (client, _):
            found = client.search_registered_models(f"name = '{self._name}'")
            return found[0].tags.get(key) if found else None

    def note(self, key: str, value: str | None) -> None:
        """Set a tag of the registered model, if there is one; None takes it away."""
        if not self._exists():
            return
        with self.tracker.talking() as (client, _):
            if value is None:
                client.delete_registered_model_tag(self._name, key)
            else:
                client.set_registered_model_tag(self._name, key, value)

    @contextlib.contextmanager
    def promotion(self) -> Iterator[None]:
        """Hold the right to decide who is champion (flows/registry/champion.py). MLflow has no such lock.

        A lock of this machine, and where other machines may use the same MLflow, a turn at the registered model.
        """
        with self.tracker.locked("promotion"):
            if database_file(self.tracker.settings) is not None or not self._exists():
                yield
                return
            with Turn(self.tracker, self._name).taken() as self._turn:
                yield
            self._turn = None

    def check_turn(self) -> None:
        """TrackingError if others took this process for dead, so that it may no longer decide."""
        if self._turn is not None:
            self._turn.check()

    def _exists(self) -> bool:
        with self.tracker.talking() as (client, _):
            return bool(client.search_registered_models(f"name = '{self._name}'"))


def _version(found: Any) -> Version:
    """Of MLflow's ModelVersion."""
    return Version(str(found.version), found.run_id, dict(found.tags))
