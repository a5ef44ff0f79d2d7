"""A model as ONNX draws the images that it draws in torch."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from genmodel.models.base import GenerativeModel, build_model
from torch import Tensor, nn

from genmodel.config import run_config
from genmodel.errors import ModelError
from genmodel.export import export_onnx, onnx_program, prior_of
from genmodel.models.families import FAMILIES
from genmodel.sampling import Sampler


class Floats(nn.Module):
    """What a model generates before its values become whole levels: float32 [N, 3, S, S] in [-1, 1]."""

    def __init__(self, model: GenerativeModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, z: Tensor) -> Tensor:
        return self.model.generate(z)


@pytest.fixture(params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> GenerativeModel:
    """Small, with weights of some size: as they are drawn at first all images are grey."""
    config = run_config({"family": request.param, "image_size": 16, "network": {"base_channels": 8}}, "test")
    built = build_model(config)
    with torch.no_grad():
        for weight in built.parameters():
            weight.mul_(3)
    return built.eval().requires_grad_(False)


def session(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


def test_onnx_draws_the_same_images_in_batches_of_any_size(model: GenerativeModel, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "model.onnx")
    exported = session((tmp_path / "model.onnx").read_bytes())
    assert [(i.name, i.type, i.shape[1]) for i in exported.get_inputs()] == [
        ("codes", "tensor(float)", model.latent_dim)
    ]
    for n in (1, 3, 70):
        codes = model.draw_codes(n, torch.Generator().manual_seed(n))
        (images,) = exported.run(["images"], {"codes": codes.numpy()})
        expected = Sampler(model)(codes).numpy()
        assert images.dtype == np.uint8 and images.shape == expected.shape == (n, 16, 16, 3)
        assert len(np.unique(expected)) > 50
        assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx"}, "one file, weights inside"


def test_onnx_agrees_to_1e_4_before_values_are_rounded(model: GenerativeModel) -> None:
    codes = model.draw_codes(5, torch.Generator().manual_seed(1))
    (images,) = session(onnx_program(Floats(model).eval(), codes[:2])).run(["images"], {"codes": codes.numpy()})
    assert np.abs(images - model.generate(codes).numpy()).max() < 1e-4


def test_who_knows_the_prior_s_name_draws_the_same_codes(model: GenerativeModel) -> None:
    assert prior_of(model) == {"DCGAN": "uniform", "VAE": "normal"}[type(model).__name__]


def test_a_prior_without_a_name_is_refused(model: GenerativeModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "draw_codes", lambda n, rng: torch.zeros(n, model.latent_dim))
    with pytest.raises(ModelError, match="a prior that cannot be named"):
        prior_of(model)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_the_packages_it_is_one_line(
    missing: str, model: GenerativeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = builtins.__import__

    def refuse(name: str, *rest: Any, **named: Any) -> Any:
        if name == missing:
            raise ImportError(f"No module named {name!r}", name=name)
        return original(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ModelError, match=rf"needs {missing}: pip install onnx onnxscript"):
        export_onnx(model, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_the_command_line_says_what_is_missing(tmp_path: Path, mistake: Callable[..., str]) -> None:
    assert "config.json is missing" in mistake("export", tmp_path / "nothing", "--onnx", tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()
