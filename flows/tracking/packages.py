"""The package of a model: fetched, written, loaded."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.running.imports import uncollected
from flows.running.scratch import scratch
from flows.settings import Settings
from genmodel.errors import ModelError
from genmodel.files import durable

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel
    from torch import nn

# what MLflow and Python write into a package's folder when it is loaded from there; it was never registered
_LEFT_BY_READERS = {"registered_model_meta", "__pycache__"}
_CODE = "served.py"


def fetch(uri: str, folder: Path, settings: Settings) -> None:
    """Copy the files under an artifact URI into `folder`, each whole or not at all.

    ModelError if MLflow answers that there are none: a retry would not help.
    """
    from mlflow.artifacts import download_artifacts, list_artifacts
    from mlflow.exceptions import MlflowException

    with scratch(settings.root) as place:
        try:
            if not list_artifacts(artifact_uri=uri, tracking_uri=settings.tracking_uri):
                raise ModelError("MLflow no longer has its files")
            fetched = download_artifacts(artifact_uri=uri, dst_path=str(place), tracking_uri=settings.tracking_uri)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise ModelError(f"MLflow no longer has its files ({error.message.splitlines()[0]})") from error
        for path in (
            path for path in Path(fetched).rglob("*") if path.is_file() and _LEFT_BY_READERS.isdisjoint(path.parts)
        ):
            durable.write_bytes(folder / path.relative_to(fetched), path.read_bytes())


def save_package(
    target: Path, sampler: "nn.Module", codes: Any, images: Any, served: str, config: Mapping[str, Any],
    requirements: Sequence[str], beside: Sequence[Path], request: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write an MLflow model to the folder `target`: a graph exported as pt2, which the code `served` runs.

    `codes` and `images`, arrays, are an example for the graph, `request` is one for clients. `config` is passed to the
    code; the files `beside` are kept with it.
    """
    with uncollected():
        import mlflow.pyfunc
        import mlflow.pytorch
        from mlflow.models import Model, ModelSignature
        from mlflow.types import Schema, TensorSpec

    inputs, outputs = (Schema([TensorSpec(a.dtype, (-1, *a.shape[1:]))]) for a in (codes, images))
    mlflow.pytorch.save_model(
        sampler, str(target), signature=ModelSignature(inputs, outputs), input_example=codes,
        serialization_format="pt2", pip_requirements=list(requirements), extra_files=[str(path) for path in beside],
    )  # fmt: skip
    (target / _CODE).write_text(served)
    model = Model.load(str(target))
    model.signature = ModelSignature(outputs=outputs)  # with a signature for inputs, MLflow would accept only one form
    model.saved_input_example_info = _example(target, request)
    mlflow.pyfunc.add_to_model(
        model, "mlflow.pyfunc.loaders.code_model", None, None, "conda.yaml", "python_env.yaml", dict(config),
        model_code_path=_CODE, artifacts={"model": {"path": "", "uri": ""}},
    )  # fmt: skip
    model.save(str(target / "MLmodel"))


def _example(target: Path, request: Mapping[str, Any]) -> dict[str, str]:
    """Write a request as MLflow's example of an input, in place of the codes; returns what MLmodel says of it."""
    asked, sent = "input_example.json", "serving_input_example.json"
    (target / asked).write_text(json.dumps(request))
    (target / sent).write_text(json.dumps({"inputs": request}))
    return {"artifact_path": asked, "serving_input_path": sent, "type": "json_object"}


def open_graph(folder: Path, settings: Settings, device: str) -> tuple[Any, dict[str, Any]]:
    """The exported graph of a package on `device`, and what its package says of it: space, image_size, classes.

    None of the package's code runs. Older packages name latent_dim and prior; the oldest have only latent_dim, in
    their signature.
    """
    import mlflow.pytorch
    from mlflow.models import Model

    settings.apply()
    about = Model.load(str(folder))
    told = dict((about.flavors.get("python_function") or {}).get("config") or {})
    schema = about.get_input_schema()
    if schema is not None:
        told.setdefault("latent_dim", schema.inputs[0].shape[1])
    logging.getLogger("mlflow.pytorch").setLevel(logging.ERROR)  # graphs of other versions of torch are fine
    return mlflow.pytorch.load_model(str(folder), device=device), told


def load(folder: Path, settings: Settings) -> "PyFuncModel":
    """The model of a package, as any MLflow loads it."""
    import mlflow.pyfunc

    settings.apply()
    loaded: PyFuncModel = mlflow.pyfunc.load_model(str(folder))
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)  # of its code: no part of what is registered
    return loaded
