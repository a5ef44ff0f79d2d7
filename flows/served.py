"""What MLflow runs of a registered model, in this process or behind `mlflow models serve`. Shipped in each version.

It stands alone: a server needs mlflow, numpy and torch, and nothing of genmodel. A request is codes, numbers
[N, latent_dim], or {"n": 16, "seed": 3}, also as rows of a table; the answer is images, uint8 [N, S, S, 3].
"""

from typing import Any

import mlflow.pytorch
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from torch import Tensor

_MOST = 4096  # images in one request: a server has no use for a client that asks for a billion
_BATCH = 256


class Served(PythonModel):
    """The exported graph (pt2, nothing pickled), with codes drawn as its family does."""

    def load_context(self, context: PythonModelContext) -> None:
        self.sampler = mlflow.pytorch.load_model(context.artifacts["model"], device="cpu")
        self.latent_dim = int(context.model_config["latent_dim"])
        self.prior = str(context.model_config["prior"])

    def predict(  # of the hints for `model_input`, an array is the one that MLflow neither converts by nor asks for
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        codes = self._codes(model_input)
        with torch.no_grad():
            return torch.cat([self.sampler(part) for part in codes.split(_BATCH)]).numpy()

    def _codes(self, asked: Any) -> Tensor:
        if isinstance(asked, pd.DataFrame) and any(isinstance(name, str) for name in asked):
            asked = {name: asked[name].to_numpy() for name in asked}
        return self._drawn(asked) if isinstance(asked, dict) else self._given(asked)

    def _given(self, asked: Any) -> Tensor:
        try:
            codes = np.asarray(asked, np.float32)
        except (TypeError, ValueError) as error:
            raise _wrong(f"codes are numbers [N, {self.latent_dim}]: {error}") from error
        if codes.ndim != 2 or codes.shape[1] != self.latent_dim:
            raise _wrong(f"codes are numbers [N, {self.latent_dim}], not of shape {list(codes.shape)}")
        if not np.isfinite(codes).all():
            raise _wrong("codes must be finite numbers")
        _check_number(len(codes))
        return torch.from_numpy(np.ascontiguousarray(codes))

    def _drawn(self, asked: dict[str, Any]) -> Tensor:
        if not {"n"} <= asked.keys() <= {"n", "seed"}:
            raise _wrong(f'write {{"n": 16, "seed": 3}}, not {", ".join(map(str, asked)) or "nothing"}')
        numbers = _whole(asked["n"], "n")
        seeds = _whole(asked.get("seed", [0] * len(numbers)), "seed")
        if len(numbers) != len(seeds):
            raise _wrong("every n needs a seed")
        _check_number(sum(numbers), *numbers)
        return torch.cat([self._draw(n, seed) for n, seed in zip(numbers, seeds, strict=True)])

    def _draw(self, n: int, seed: int) -> Tensor:
        rng = torch.Generator().manual_seed(seed)
        if self.prior == "uniform":
            return torch.rand(n, self.latent_dim, generator=rng).mul_(2).sub_(1)
        return torch.randn(n, self.latent_dim, generator=rng)


def _whole(values: Any, name: str) -> list[int]:
    numbers = np.atleast_1d(np.asarray(values))
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu" or (numbers < 0).any():
        raise _wrong(f"{name} must be a whole number of at least 0")
    return [int(number) for number in numbers]


def _check_number(total: int, *numbers: int) -> None:
    if not 1 <= total <= _MOST or 0 in numbers:
        raise _wrong(f"a request is for 1 to {_MOST} images, not {total}")


def _wrong(what: str) -> MlflowException:
    """An error that a server answers with status 400."""
    return MlflowException.invalid_parameter_value(what)


set_model(Served())
