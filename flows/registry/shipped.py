"""The code that MLflow runs for a registered model, in a process or behind `mlflow models serve`. Part of each version.

A server needs mlflow, numpy and torch, but not genmodel: in the shipped file the source of each module that is imported
from it takes the place of the import (flows/registry/packaging.py).

A request is {"n": 16, "seed": 3}, also as rows of a table, for a conditional model with a "class" by name or number, or
codes, numbers [N, width]; the answer is images, uint8 [N, H, W, C].
"""

from typing import Any

import mlflow.pytorch
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from torch import Tensor

from genmodel.models.noise import Space
from genmodel.sampling.requests import codes, find_class, in_batches

_MOST = 4096  # images in one request: a bound for the server's memory and time


class Served(PythonModel):
    """The exported graph (pt2, nothing pickled), with codes drawn as genmodel draws them."""

    def load_context(self, context: PythonModelContext) -> None:
        self.sampler = mlflow.pytorch.load_model(context.artifacts["model"], device="cpu")
        self.space = Space.from_dict(context.model_config["space"])
        self.classes = [str(name) for name in context.model_config["classes"]]
        self.shares = [float(count) for count in context.model_config["class_counts"]]
        self.width = self.space.width + bool(self.classes)

    def predict(  # by any other hint for `model_input` than an array, MLflow would convert or refuse inputs
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        asked = self._codes(model_input)
        with torch.no_grad():
            return in_batches(self.sampler, asked).numpy()

    def _codes(self, asked: Any) -> Tensor:
        if isinstance(asked, pd.DataFrame) and any(isinstance(name, str) for name in asked):
            asked = {name: asked[name].to_numpy() for name in asked}
        return self._drawn(asked) if isinstance(asked, dict) else self._given(asked)

    def _given(self, asked: Any) -> Tensor:
        try:
            given = np.asarray(asked, np.float32)
        except (TypeError, ValueError) as error:
            raise _wrong(f"codes are numbers [N, {self.width}]: {error}") from error
        if given.ndim != 2 or given.shape[1] != self.width:
            raise _wrong(f"codes are numbers [N, {self.width}], not of shape {list(given.shape)}")
        if not np.isfinite(given).all():
            raise _wrong("codes must be finite numbers")
        for part, numbers in zip(self.space.parts, self.space.split(given[:, : self.space.width]), strict=True):
            if part.kind == "categorical":
                _check_choices(numbers, part.classes, "a choice among the codes")
        if self.classes:
            _check_choices(given[:, -1], len(self.classes), "the class, the last number of a code,")
        _check_number(len(given))
        return torch.from_numpy(np.ascontiguousarray(given))

    def _drawn(self, asked: dict[str, Any]) -> Tensor:
        if not {"n"} <= asked.keys() <= {"n", "seed", "class"}:
            form = '{"n": 16, "seed": 3' + (f', "class": "{self.classes[-1]}"}}' if self.classes else "}")
            raise _wrong(f"write {form}, not {', '.join(map(str, asked)) or 'nothing'}")
        numbers = _whole(asked["n"], "n")
        seeds = _whole(asked.get("seed", [0] * len(numbers)), "seed")
        labels = [self._label(each) for each in _list(asked.get("class", [None] * len(numbers)), "class")]
        if not len(numbers) == len(seeds) == len(labels):
            raise _wrong("every n needs a seed, and a class where one is asked for")
        _check_number(sum(numbers), *numbers)
        rows = zip(numbers, seeds, labels, strict=True)
        return torch.cat([codes(self.space, self.shares, n, seed, label) for n, seed, label in rows])

    def _label(self, asked: Any) -> int | None:
        """The number of the class, asked for by name or number; None for a row of a table without one."""
        if asked is None or asked != asked:
            return None
        if isinstance(asked, float) and asked.is_integer():  # whole numbers beside a gap in a table's column
            asked = int(asked)
        try:
            return find_class(self.classes, asked)
        except ValueError as error:
            raise _wrong(f"class: {error}") from error


def _whole(values: Any, name: str) -> list[int]:
    numbers = np.asarray(_list(values, name))
    if numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise _wrong(f"{name} must be a whole number of at least 0")
    return [int(number) for number in numbers]


def _list(values: Any, name: str) -> list[Any]:
    listed = np.atleast_1d(np.asarray(values))
    if listed.ndim != 1:
        raise _wrong(f"{name} must be one value, or a list of them")
    return list(listed.tolist())


def _check_choices(numbers: np.ndarray, count: int, what: str) -> None:
    if not ((numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < count)).all():
        raise _wrong(f"{what} is a whole number from 0 to {count - 1}")


def _check_number(total: int, *numbers: int) -> None:
    if not 1 <= total <= _MOST or 0 in numbers:
        raise _wrong(f"a request is for 1 to {_MOST} images, not {total}")


def _wrong(what: str) -> MlflowException:
    """An error that a server answers with status 400."""
    error: MlflowException = MlflowException.invalid_parameter_value(what)
    return error


set_model(Served())
