"""The registry of models: equal weights are one version; aliases say which one is champion, candidate, previous.

python -m flows.registry rollback | history | lineage VERSION
"""

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.card import Card
from flows.packaging import package, try_out
from flows.settings import Settings
from flows.tracking import Tracker, fetch
from genmodel import durable
from genmodel.cli import user_errors
from genmodel.errors import TrackingError
from genmodel.folder import read_config

if TYPE_CHECKING:
    from torch import nn

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"
_DESCRIPTION = """Turns latent codes into images. A version is one trained model; `champion` is the one in use.

```python
import mlflow, numpy as np

model = mlflow.pyfunc.load_model("models:/{name}@champion")
images = model.predict({{"n": 16, "seed": 3}})  # uint8, NHWC
codes = np.random.default_rng(0).standard_normal((16, model.model_config["latent_dim"]))  # or codes of your own
images = model.predict(codes.astype(np.float32))
```

`mlflow models serve -m models:/{name}@champion --env-manager local` answers
`{{"inputs": {{"n": 16, "seed": 3}}}}` and `{{"inputs": [[...codes...]]}}` at `/invocations`.
It needs no pickle: set `MLFLOW_ALLOW_PICKLE_DESERIALIZATION=false`. The weights lie beside it as safetensors.
"""


@dataclass(frozen=True)
class Version:
    """A version of the registered model."""

    number: str
    run_id: str
    tags: Mapping[str, str]  # genmodel.fingerprint, .weights, .family, .data; eval.* figures


class Registry:
    """The versions of the project's registered model in the tracker's MLflow."""

    def __init__(self, tracker: Tracker) -> None:
        self._tracker = tracker
        self._name = tracker.settings.registered_name

    def register(
        self, folder: Path, report: Mapping[str, Any], sampler: "nn.Module", latent_dim: int, prior: str, card: Card
    ) -> Version:
        """Register the finished model in `folder`, once for equal weights. Its training must have a run.

        `sampler` and `prior` are what flows.packaging.package takes; beside it lie weights.safetensors, config.json,
        report.json and card.md. The card is shown as the version's description.
        """
        described = read_config(folder)
        with self._tracker.talking() as (client, experiment_id), self._tracker.locked("registry"):
            query = f"name = '{self._name}' and tags.`genmodel.weights` = '{described['weights']}'"
            if known := client.search_model_versions(query):
                return _version(known[0])
            run = self._tracker.run(described["fingerprint"])
            tags = {
                "genmodel.name": described["name"],
                "genmodel.fingerprint": described["fingerprint"],
                "genmodel.weights": described["weights"],
                "genmodel.family": described["config"]["family"],
                "genmodel.data": run.data.tags["genmodel.data"],
                **{
                    f"eval.{name}": f"{float(value):.6g}"
                    for name, value in report["figures"].items()
                    if value is not None
                },
                **card.tags,
            }
            model = client.create_logged_model(experiment_id, described["name"], run.info.run_id, tags)
            with tempfile.TemporaryDirectory() as scratch:
                told, packed = Path(scratch) / "report.json", Path(scratch) / "model"
                durable.write_json(told, report)
                files = card.write(Path(scratch) / "card")
                beside = [folder / "weights.safetensors", folder / "config.json", told, *files]
                package(packed, sampler, latent_dim, prior, beside)
                client.log_model_artifacts(model.model_id, str(packed))
                client.log_artifacts(run.info.run_id, str(Path(scratch) / "card"), "card")
            client.finalize_logged_model(model.model_id, "READY")
            if not client.search_registered_models(f"name = '{self._name}'"):
                client.create_registered_model(self._name, description=_DESCRIPTION.format(name=self._name))
            source, shown = f"models:/{model.model_id}", card.described(run.info.run_id)
            return _version(
                client.create_model_version(
                    self._name, source, run.info.run_id, tags, description=shown, model_id=model.model_id
                )
            )

    def version(self, alias: str) -> Version | None:
        """The version with an alias (CHAMPION, CANDIDATE, PREVIOUS), or None."""
        with self._tracker.talking() as (client, _):
            found = client.search_registered_models(f"name = '{self._name}'")
            if not found or alias not in found[0].aliases:
                return None
            return _version(client.get_model_version_by_alias(self._name, alias))

    def numbered(self, number: str) -> Version | None:
        """The version with a number, or None."""
        if not number.isdecimal():
            return None
        with self._tracker.talking() as (client, _):
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

    def download(self, version: Version, folder: Path) -> None:
        """Fetch weights.safetensors, config.json, report.json and the card of a version into `folder`."""
        with self._tracker.talking() as (client, _):
            source = client.get_model_version_download_uri(self._name, version.number)
            fetch(f"{source.rstrip('/')}/extra_files", folder, self._tracker.settings)

    def try_out(self, version: Version) -> str:
        """Fetch a version, load it as anyone would and draw images with it; returns what it did in words.

        ModelError if that fails; TrackingError where MLflow does not give it, which says nothing about the model.
        """
        with self._tracker.talking() as (client, _), tempfile.TemporaryDirectory() as scratch:
            source = client.get_model_version_download_uri(self._name, version.number)
            fetch(source, Path(scratch), self._tracker.settings)
            return try_out(Path(scratch), f"version {version.number} of {self._name}", self._tracker.settings)

    def run_tags(self, version: Version) -> dict[str, str]:
        """The tags of the run that a version comes from: commit, data, training."""
        with self._tracker.talking() as (client, _):
            return dict(client.get_run(version.run_id).data.tags)

    def set_alias(self, alias: str, number: str) -> None:
        with self._tracker.talking() as (client, _):
            client.set_registered_model_alias(self._name, alias, number)

    def tag(self, number: str, tags: Mapping[str, str | None]) -> None:
        """Set tags of a version; None takes one away."""
        with self._tracker.talking() as (client, _):
            for key, value in tags.items():
                if value is None:
                    client.delete_model_version_tag(self._name, number, key)
                else:
                    client.set_model_version_tag(self._name, number, key, value)

    @contextlib.contextmanager
    def promotion(self) -> Iterator[None]:
        """Hold the right to decide who is champion (flows/champion.py). MLflow has no such lock."""
        with self._tracker.locked("promotion"):
            yield


def _version(found: Any) -> Version:
    """Of MLflow's ModelVersion."""
    return Version(str(found.version), found.run_id, dict(found.tags))


def main(argv: list[str] | None = None) -> int:
    from flows import console

    arguments = _parser().parse_args(argv)
    with user_errors():
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        console.run(arguments, settings)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.registry", description="Who is champion, since when, why.")
    commands = parser.add_subparsers(required=True, dest="command", metavar="COMMAND")
    rollback = commands.add_parser("rollback", help="put the previous champion back, if it loads and generates")
    rollback.add_argument("--reason", default="no reason given", help="for the ledger")
    history = commands.add_parser("history", help="who was champion when and why")
    history.add_argument("--all", action="store_true", help="decisions that changed nothing, too")
    lineage = commands.add_parser("lineage", help="what a version was made of, and the commands that restore it")
    lineage.add_argument("version", help="its number, or an alias as champion")
    return parser


if __name__ == "__main__":
    sys.exit(main())
