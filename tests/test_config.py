import json
from pathlib import Path

import pytest

from genmodel import durable
from genmodel.config import Params, build, read_params, run_config
from genmodel.errors import ConfigError
from genmodel.settings import EvaluationConfig, TrainingConfig

GOOD = """
models:
  small:
    family: dcgan
    image_size: 16
    network: {latent_dim: 10}
    training: {images: 1000, batch_size: 8}
evaluation: {samples: 64}
gate: {margin: 0.02}
"""


def read(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    return read_params(path)


def test_reads_what_is_written_and_fills_in_the_rest(tmp_path: Path) -> None:
    params = read(tmp_path, GOOD)
    small = params.models["small"]
    assert (small.image_size, small.network.latent_dim, small.network.base_channels) == (16, 10, 64)
    assert (small.training.images, small.training.seed) == (1000, 0)
    assert (params.evaluation.samples, params.gate.margin) == (64, 0.02)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("latent_dim: 10", "latent_dims: 10", r"small.network: unknown key 'latent_dims'; did you mean 'latent_dim'"),
        ("batch_size: 8", "batchsize: 8", r"models.small.training: unknown key 'batchsize'; did you mean 'batch_size'"),
        ("images: 1000", "images: many", r"models.small.training.images: must be a whole number, not 'many'"),
        ("images: 1000", "images: 0", r"models.small.training.images: must be at least 1, not 0"),
        ("images: 1000", "images: 1.5", r"training.images: must be a whole number, not 1.5"),
        ("images: 1000", "images: true", r"training.images: must be a whole number, not True"),
        ("latent_dim: 10", "generator_learning_rate: 2e-4", r"must be a number, not '2e-4' \(in YAML"),
        ("family: dcgan", "family: dcgann", r"family 'dcgann' is none of .*; did you mean 'dcgan'"),
        ("image_size: 16", "image_size: 4", r"models.small.image_size: must be between 8 and 1024, not 4"),
        ("samples: 64", "extractor: classifer", r"evaluation.extractor: 'classifer' .* did you mean 'classifier'"),
        ("margin: 0.02", "margin: 2", r"gate.margin: must be between 0.013 and 1, not 2"),
        ("margin: 0.02", "margin: 0.01", r"gate.margin: must be between 0.013 and 1, not 0.01"),
        ("evaluation:", "evaluations:", r"unknown key 'evaluations'; did you mean 'evaluation'"),
        ("network: {latent_dim: 10}", "network: 7", r"network must hold keys and values"),
        ("family: dcgan", "family: [", r"params.yaml is no YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_mend(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=message) as caught:
        read(tmp_path, GOOD.replace(old, new))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_no_models_are_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"params.yaml is missing"):
        read_params(tmp_path / "params.yaml")
    with pytest.raises(ConfigError, match=r"models must name at least one"):
        read(tmp_path, "models: {}")


def test_overrides_reach_the_part_that_has_the_key() -> None:
    config = run_config(
        {"family": "vae"}, "vae", ["images=500", "network.beta=2", "precision=bf16", "flip=false", "image_size=32"]
    )
    assert config.training == TrainingConfig(images=500, precision="bf16", flip=False)
    assert (config.network.beta, config.image_size) == (2.0, 32)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("image=5", "--set: unknown key 'image'; did you mean 'images'"),
        ("images", "write key=value"),
        ("images=-3", "images: must be at least 1"),
        ("beta1=0.5", "did you mean 'beta'"),
    ],
)
def test_a_wrong_override_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config({"family": "vae"}, "vae", [override])


def test_as_dict_reads_back() -> None:
    config = run_config({"family": "dcgan", "network": {"base_channels": 8}}, "dcgan")
    again = run_config(json.loads(json.dumps(config.as_dict())), "again")
    assert again == config
    assert durable.digest_json(again.as_dict()) == durable.digest_json(config.as_dict())


def test_settings_are_frozen() -> None:
    config = build(EvaluationConfig, {}, "here")
    with pytest.raises(AttributeError):
        config.samples = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        "models: {a: &a [1, 1]}\n"
        + "".join(f"k{i}: &k{i} [{', '.join([f'*k{i - 1}' if i else '2'] * 9)}]\n" for i in range(12)),
        "".join(f"k{i}: &k{i} {{<<: [{', '.join([f'*k{i - 1}'] * 9) if i else '{a: 1}'}]}}\n" for i in range(12)),
        "models: &m [*m]\n",
        "models: " + "[" * 20_000 + "\n",
        "models: 2001-99-99\n",
    ],
)
def test_a_yaml_file_that_grows_or_nests_without_end_is_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"params.yaml (is no YAML|grows beyond 100,000 values)"):
        read(tmp_path, text)
