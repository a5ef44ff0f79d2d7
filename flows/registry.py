"""The registry of models: equal weights are one version; aliases say which one is champion, candidate, previous."""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.tracking import Tracker, fetch, package
from genmodel import durable

if TYPE_CHECKING:
    from torch import nn

CHAMPION, CANDIDATE, PREVIOUS = "champion", "candidate", "previous"
_DESCRIPTION = """Turns latent codes into images. A version is one trained model; `champion` is the one in use.

```python
import mlflow, numpy as np

model = mlflow.pyfunc.load_model("models:/{name}@champion")
latent_dim = model.metadata.get_input_schema().inputs[0].shape[1]
codes = np.random.default_rng(0).uniform(-1, 1, (16, latent_dim)).astype(np.float32)  # VAE: standard_normal
images = model.predict(codes)  # uint8, NHWC
```

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

    def register(self, folder: Path, report: Mapping[str, Any], sampler: "nn.Module", latent_dim: int) -> Version:
        """Register the finished model in `folder`, once for equal weights. Its training must have a run.

        `sampler` is what flows.tracking.package exports; weights.safetensors, config.json and report.json lie beside.
        """
        described = json.loads((folder / "config.json").read_text())
        with self._tracker.talking() as (client, experiment_id), self._tracker.locked("registry"):
            query = f"name = '{self._name}' and tags.`genmodel.weights` = '{described['weights']}'"
            if known := client.search_model_versions(query):
                return _version(known[0])
            run = self._tracker.run(described["fingerprint"])
            tags = {
                "genmodel.fingerprint": described["fingerprint"],
                "genmodel.weights": described["weights"],
                "genmodel.family": described["config"]["family"],
                "genmodel.data": run.data.tags["genmodel.data"],
                **{f"eval.{name}": f"{value:.6g}" for name, value in report["figures"].items() if value is not None},
            }
            model = client.create_logged_model(experiment_id, described["name"], run.info.run_id, tags)
            with tempfile.TemporaryDirectory() as scratch:
                told, packed = Path(scratch) / "report.json", Path(scratch) / "model"
                durable.write_json(told, report)
                package(packed, sampler, latent_dim, [folder / "weights.safetensors", folder / "config.json", told])
                client.log_model_artifacts(model.model_id, str(packed))
            client.finalize_logged_model(model.model_id, "READY")
            if not client.search_registered_models(f"name = '{self._name}'"):
                client.create_registered_model(self._name, description=_DESCRIPTION.format(name=self._name))
            source, figures = f"models:/{model.model_id}", _in_words(described["name"], report["figures"])
            return _version(
                client.create_model_version(
                    self._name, source, run.info.run_id, tags, description=figures, model_id=model.model_id
                )
            )

    def version(self, alias: str) -> Version | None:
        """The version with an alias (CHAMPION, CANDIDATE, PREVIOUS), or None."""
        with self._tracker.talking() as (client, _):
            found = client.search_registered_models(f"name = '{self._name}'")
            if not found or alias not in found[0].aliases:
                return None
            return _version(client.get_model_version_by_alias(self._name, alias))

    def download(self, version: Version, folder: Path) -> None:
        """Fetch weights.safetensors, config.json and report.json of a version into `folder`."""
        with self._tracker.talking() as (client, _):
            source = client.get_model_version_download_uri(self._name, version.number)
            fetch(f"{source.rstrip('/')}/extra_files", folder, self._tracker.settings)

    def set_alias(self, alias: str, version: Version) -> None:
        with self._tracker.talking() as (client, _):
            client.set_registered_model_alias(self._name, alias, version.number)

    @contextlib.contextmanager
    def promotion(self) -> Iterator[None]:
        """Hold the right to promote: read the champion, decide and call promote inside. MLflow has no such lock."""
        with self._tracker.locked("promotion"):
            yield

    def promote(self, version: Version) -> None:
        """Make `version` the champion, and the champion before it the previous one. Only inside promotion()."""
        champion = self.version(CHAMPION)
        if champion is not None and champion.number == version.number:
            return
        if champion is not None:
            self.set_alias(PREVIOUS, champion)
        self.set_alias(CHAMPION, version)


def _in_words(name: str, figures: Mapping[str, float | None]) -> str:
    return f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in figures.items() if value is not None)


def _version(found: Any) -> Version:
    """Of MLflow's ModelVersion."""
    return Version(str(found.version), found.run_id, dict(found.tags))
