"""Whether a finished model is the one that today's recipe, data and code would train."""

import json
from pathlib import Path

from genmodel.config import Params
from genmodel.data.block import Block
from genmodel.errors import ConfigError, ModelError
from genmodel.training.identity import Identity, differences, identify

_PARAMS, _DATA, _MODELS = "params.yaml", "data", "models"


def identity_of(name: str, params: Params, root: Path = Path()) -> Identity:
    """What the model `name` of params.yaml is known by today; ConfigError if it has none of that name."""
    if name not in params.models:
        raise ConfigError(f"{_PARAMS} has no model {name!r}, only {', '.join(params.models)}")
    return identify(name, params.models[name], Block.open(root / _DATA))


def current_model(name: str, params: Params, root: Path = Path()) -> Identity:
    """The identity of the finished model models/`name`, if it is what params.yaml, data/ and the code say today.

    ModelError if it was trained by another recipe, on other data or by other code: figures and versions made of it now
    would be told of what it is not.
    """
    today = identity_of(name, params, root)
    path = root / _MODELS / name / "config.json"
    again = f"`dvc repro train@{name}`"
    try:
        there = json.loads(path.read_bytes())
        if there["fingerprint"] == today.fingerprint:
            return today
        what = "; ".join(differences(there, today.as_dict())) or "fingerprint"
    except FileNotFoundError as error:
        raise ModelError(f"{path} is missing: train the model ({again}) or pull it (`dvc pull`)") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged: run {again} or `dvc checkout --force train@{name}`") from error
    raise ModelError(f"{path.parent} is not what {_PARAMS} and {_DATA} say today ({what}): run {again}")
