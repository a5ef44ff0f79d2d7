"""Whether a finished model is the one that today's recipe, data and code would train."""

from pathlib import Path

from genmodel.data.block import Block
from genmodel.errors import ConfigError, EvaluationError, ModelError
from genmodel.evaluation.report import Report
from genmodel.files import durable
from genmodel.files.model_folder import read_config
from genmodel.models.families import module_of
from genmodel.params import Params, model_family, read_params, read_yaml
from genmodel.training.identify import code_of, identify
from genmodel.training.identity import Identity, differences, is_as_written

_PARAMS, _DATA, _MODELS, _REPORTS = "params.yaml", "data", "models", "reports"


def identity_of(name: str, params: Params, root: Path = Path()) -> Identity:
    """What the model `name` of params.yaml is known by today; ConfigError if it has none of that name."""
    if name not in params.models:
        raise ConfigError(f"{_PARAMS} has no model {name!r}, only {', '.join(params.models)}")
    return identify(name, params.models[name], Block.open(root / _DATA))


def current_model(name: str, params: Params, root: Path = Path()) -> Identity:
    """The identity of the finished model models/`name`, if it is what params.yaml, data/ and the code say today.

    ModelError if it is missing or damaged, or was trained by another recipe, on other data or by other code: figures
    and versions made of it now would be recorded for a model that it is not.
    """
    today = identity_of(name, params, root)
    folder = root / _MODELS / name
    there = read_config(folder)
    if there["fingerprint"] == today.fingerprint:
        return today
    what = "; ".join(differences(there, today)) or "fingerprint"
    raise ModelError(f"{folder} is not what {_PARAMS} and {_DATA} say today ({what}): run `dvc repro train@{name}`")


def current_fingerprint(name: str, root: Path = Path()) -> str:
    """The fingerprint of the finished model models/`name`, checked as `current_model` does.

    Without torch where its settings stand in params.yaml as they were when it was trained.
    """
    params = root / _PARAMS
    family = model_family(params, name)
    there = read_config(root / _MODELS / name)
    if family is not None:
        written = read_yaml(params)["models"][name]
        if is_as_written(there, written, Block.open(root / _DATA).digest, code_of(module_of(family))):
            return str(there["fingerprint"])
    return current_model(name, read_params(params), root).fingerprint


def read_report(name: str, fingerprint: str | None = None, root: Path = Path()) -> Report:
    """The report of models/NAME as `evaluate` wrote it, of the training `fingerprint` where one is named.

    EvaluationError if it is missing, damaged, of another version of this code, or another model's.
    """
    path, model = root / _REPORTS / f"{name}.json", root / _MODELS / name
    fix = f"run `dvc repro -f -s evaluate@{name}` first"
    told = durable.read_sealed(path, EvaluationError, fix)
    try:
        report = Report.from_dict(told, str(path))
    except EvaluationError as error:
        raise EvaluationError(f"{error}: {fix}") from error
    if (report.name, report.weights) != (name, read_config(model)["weights"]):
        raise EvaluationError(f"{path} is of another model than {model}: {fix}")
    if fingerprint is not None and report.fingerprint != fingerprint:
        raise EvaluationError(f"{path} is of another training than {model}: {fix}")
    return report
