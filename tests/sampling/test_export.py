"""A model as ONNX draws the images that it draws in torch."""

import builtins
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from torch import Tensor, nn

from genmodel.errors import ModelError
from genmodel.models.contract import Family
from genmodel.sampling.draw import Sampler, sampled
from genmodel.sampling.export import export_onnx, onnx_program
from genmodel.sampling.requests import codes


class Floats(nn.Module):
    """What a model generates before its values become whole levels: float32 [N, 3, S, S] in [-1, 1]."""

    def __init__(self, model: Family) -> None:
        super().__init__()
        self.model = model

    def forward(self, codes: Tensor) -> Tensor:
        return sampled(self.model, codes)


FAMILIES = ["dcgan", "infogan", "vae", "iaf_vae", "r3gan", "flow"]


@pytest.fixture(params=[*FAMILIES, "categories", "autoregressive", "conditional"])
def model(request: pytest.FixtureRequest, toys: None, built: Callable[..., Family]) -> Family:
    return built(request.param, base_channels=8, steps=1)


def asked(model: Family, n: int) -> Tensor:
    return codes(model.space, [1.0] * model.classes, n, seed=n)


def session(content: bytes) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.slow
def test_onnx_draws_the_same_images_in_batches_of_any_size(model: Family, tmp_path: Path) -> None:
    export_onnx(model, tmp_path / "model.onnx")
    exported = session((tmp_path / "model.onnx").read_bytes())
    assert [(i.name, i.type, i.shape[1]) for i in exported.get_inputs()] == [
        ("codes", "tensor(float)", model.space.width + bool(model.classes))
    ]
    for n in (1, 3, 70):
        (images,) = exported.run(["images"], {"codes": asked(model, n).numpy()})
        expected = Sampler(model)(asked(model, n)).numpy()
        assert images.dtype == np.uint8 and images.shape == expected.shape == (n, 16, 16, 3)
        assert len(np.unique(expected)) > 50
        assert np.abs(images.astype(int) - expected.astype(int)).max() <= 1
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx"}, "one file, weights inside"


@pytest.mark.slow
def test_onnx_agrees_to_1e_4_before_values_are_rounded(model: Family) -> None:
    rows = asked(model, 5)
    (images,) = session(onnx_program(Floats(model).eval(), rows[:2])).run(["images"], {"codes": rows.numpy()})
    # where each row is drawn from the one before, so is its rounding
    assert np.abs(images - sampled(model, rows).numpy()).max() < (1e-4 if model.space.meaningful else 1 / 255)


@pytest.mark.slow
def test_a_model_that_cannot_be_exported_is_one_line(
    built: Callable[..., Family], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = built("vae", base_channels=8)
    original = model.sample
    for other, why in (
        (lambda noise: original(noise if noise.sum() > 0 else -noise), ""),
        (lambda noise: original(noise.reshape(len(noise), -1)), "it fixes the number of images"),
    ):
        monkeypatch.setattr(model, "sample", other)
        with pytest.raises(ModelError, match=f"torch cannot export a vae to ONNX: {why}") as caught:
            export_onnx(model, tmp_path / "model.onnx")
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_the_packages_it_is_one_line(
    missing: str, model: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
