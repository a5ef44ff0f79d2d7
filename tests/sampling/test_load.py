import json
from pathlib import Path
from typing import Any

import pytest
import torch

from genmodel.errors import ConfigError, ModelError
from genmodel.files import tensors
from genmodel.files.durable import seal
from genmodel.files.model_folder import write_config
from genmodel.models.contract import Family, build_model
from genmodel.params import run_config
from genmodel.sampling.load import load_model
from genmodel.sizes import Size

SEALED = json.dumps(seal({}))
SMALL = {
    "dcgan": {"family": "dcgan", "image_size": 16, "network": {"latent_dim": 8, "base_channels": 8}},
    "vae": {"family": "vae", "image_size": 16, "network": {"latent_dim": 8, "base_channels": 8}},
    "conditional": {"family": "conditional", "image_size": 16},
}


def save(folder: Path, values: dict[str, Any], old: dict[str, Any] | None = None, **weights: torch.Tensor) -> Family:
    """`old`: settings of the network that earlier versions had."""
    config = run_config(values, "test")
    model = build_model(config, classes=2)
    digest = tensors.save(folder / "weights.safetensors", {**model.state_dict(), **weights})
    about = {"name": "small", "fingerprint": "f" * 64, "block": "b" * 64, "weights": digest}
    about["config"] = {**config.as_dict(), "network": {**config.as_dict()["network"], **(old or {})}}
    write_config(folder, {**about, "classes": ["circle", "square"], "class_counts": [9, 3]})
    return model


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize("family", SMALL)
def test_a_loaded_model_has_the_weights_that_were_saved(tmp_path: Path, family: str) -> None:
    saved = save(tmp_path, SMALL[family])
    loaded, about = load_model(tmp_path)
    assert about["name"] == "small" and about["config"]["family"] == family
    assert loaded.image_size == Size(16, 16) and not loaded.training and loaded.classes == 2 * (family == "conditional")
    assert not any(weight.requires_grad for weight in loaded.parameters())
    expected = saved.state_dict()
    assert expected.keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.state_dict().items())


def test_a_model_of_an_earlier_version_loads_with_a_setting_that_has_moved(tmp_path: Path) -> None:
    saved = save(tmp_path, SMALL["dcgan"], old={"translate": 0.125})
    loaded, _ = load_model(tmp_path)
    assert all(torch.equal(value, saved.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nowhere/config.json is missing"):
        load_model(tmp_path / "nowhere")
    save(tmp_path, SMALL["vae"])
    content = bytearray((tmp_path / "weights.safetensors").read_bytes())
    content[-1] ^= 1
    (tmp_path / "weights.safetensors").write_bytes(content)
    with pytest.raises(ModelError, match=r"weights.safetensors is damaged"):
        load_model(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    with pytest.raises(ModelError, match=r"weights.safetensors is missing"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is damaged"), ("{}", "has no checksum"), ("[]", "is damaged"), (SEALED, "has no name")],
)
def test_a_damaged_description_is_one_line(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=words):
        load_model(tmp_path)


def test_weights_that_do_not_fit_or_are_no_numbers_are_refused(tmp_path: Path) -> None:
    save(tmp_path, SMALL["vae"], extra=torch.zeros(1))
    with pytest.raises(ModelError, match=r"does not fit the vae that config.json describes"):
        load_model(tmp_path)
    save(tmp_path, SMALL["vae"], log_scale=torch.full((3, 1, 1), torch.nan))
    with pytest.raises(ModelError, match="not finite: train the model again"):
        load_model(tmp_path)


def test_settings_that_this_version_does_not_know_are_named(tmp_path: Path) -> None:
    save(tmp_path, SMALL["vae"])
    about = json.loads((tmp_path / "config.json").read_text())
    about["config"]["network"]["depth"] = 3
    del about["checksum"]
    write_config(tmp_path, about)
    with pytest.raises(ConfigError, match=r"config.json: config.network: unknown key 'depth'"):
        load_model(tmp_path)


def test_a_model_of_before_classes_were_told_is_named(tmp_path: Path) -> None:
    save(tmp_path, SMALL["vae"])
    about = json.loads((tmp_path / "config.json").read_text())
    del about["checksum"], about["classes"]
    write_config(tmp_path, about)
    with pytest.raises(ModelError, match=r"made by an earlier version of genmodel: train the model again"):
        load_model(tmp_path)
