"""None"""

import json
import shutil
import subprocess
from dataclasses import asdict
from pathlib import Path

import pytest

from genmodel.errors import ConfigError
from genmodel.files import durable
from genmodel.params import Params, build, read_params, run_config
from genmodel.settings.config import EvaluationConfig, TrainingConfig
from genmodel.settings.schedule import Schedule
from genmodel.sizes import Size

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
    assert (small.image_size, small.network.latent_dim, small.network.base_channels) == (Size(16, 16), 10, 64)
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
        ("family: dcgan", "family: dcgann", r"family 'dcgann' is not one of .*; did you mean 'dcgan'"),
        ("image_size: 16", "image_size: 4", r"models.small.image_size: must be between 8 and 1024, not 4"),
        ("family: dcgan", "family: zzz", r"models.small: family 'zzz' is not one of dcgan, .*vae$"),
        ("samples: 64", "extractor: zzz", r"must be one of classifier, inception, dinov2, pixels, not 'zzz'$"),
        ("samples: 64", "extractor: classifer", r"evaluation.extractor: .* not 'classifer'; did you mean 'classifier'"),
        ("margin: 0.02", "margin: 2", r"gate.margin: must be between 0.013 and 1, not 2"),
        ("margin: 0.02", "margin: 0.01", r"gate.margin: must be between 0.013 and 1, not 0.01"),
        ("evaluation:", "evaluations:", r"unknown key 'evaluations'; did you mean 'evaluation'"),
        ("latent_dim: 10", "translate: 0.1", r"small.network: translate is now augment.translate$"),
        ("latent_dim: 10", "augment: {translate: 1}", r"network.augment.translate: must be between 0 and 0.5, not 1"),
        ("latent_dim: 10", "augment: {probability: {start: 2}}", r"augment.probability.start: must be between 0 and 1"),
        ("network: {latent_dim: 10}", "network: 7", r"network must hold keys and values"),
        ("family: dcgan", "family: [", r"params.yaml is not valid YAML"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_that_names_the_fix(tmp_path: Path, old: str, new: str, message: str) -> None:
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
    assert (config.network.beta, config.image_size) == (2.0, Size(32, 32))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("image=5", "--set: unknown key 'image'; did you mean 'images'"),
        ("images", "write key=value"),
        ("images=-3", "images: must be at least 1"),
        ("beta1=0.5", "did you mean 'beta'"),
        ("zzz=1", "--set: unknown key 'zzz'$"),
        ("trainng.images=5", "--set: unknown key 'trainng'; did you mean 'training'"),
        ("training.beta=2", "--set training: unknown key 'beta'$"),
        (
            "network.zzz=2",
            "--set network: unknown key 'zzz'; known keys: latent_dim, base_channels, learning_rate, beta, ",
        ),
        ("network=7", "vae.network must hold keys and values, not 7"),
        ("ema_half_life.strat=7", "training.ema_half_life: unknown key 'strat'; did you mean 'start'"),
        ("beta=NaN", "network.beta: must be a finite number, not nan"),
        ("beta=1" + "0" * 400, "network.beta: must be a finite number, not 1000"),
        ("beta=1" + "0" * 5000, "network.beta: must be a number or a mapping .*, not '1000"),
        ("beta=" + "[" * 5000, r"network.beta: must be a number or a mapping .*, not '\[\["),
        ("beta" + ".a" * 5000 + "=1", "--set beta...: no setting is nested 5000 levels deep"),
    ],
)
def test_a_wrong_override_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config({"family": "vae"}, "vae", [override])


@pytest.mark.parametrize("override", ["translate=0.1", "network.translate=0.1"])
def test_an_override_of_a_setting_that_has_moved_is_told_its_place(override: str) -> None:
    with pytest.raises(ConfigError, match=f"^--set {override[:-4]}: translate is now augment.translate$"):
        run_config({"family": "dcgan"}, "dcgan", [override])
    config = run_config({"family": "dcgan"}, "dcgan", ["augment.translate=0.1"])
    assert (config.network.augment.translate, config.network.augment.is_off) == (0.1, False)


def test_as_dict_reads_back() -> None:
    config = run_config({"family": "dcgan", "network": {"base_channels": 8}}, "dcgan")
    again = run_config(json.loads(json.dumps(config.as_dict())), "again")
    assert again == config
    assert durable.digest_json(again.as_dict()) == durable.digest_json(config.as_dict())


def test_settings_are_frozen() -> None:
    config = build(EvaluationConfig, {}, "here")
    with pytest.raises(AttributeError):
        config.samples = 3  # type: ignore[misc]


@pytest.mark.slow
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
    with pytest.raises(ConfigError, match=r"params.yaml (is not valid YAML|expands to more than 100,000 values)"):
        read(tmp_path, text)


def test_labels_and_the_average_s_half_life_are_settings_of_a_training() -> None:
    values = {"family": "vae", "training": {"labelled": 100, "ema_half_life": {"start": 0, "end": 9, "over": 5}}}
    training = run_config(values, "vae").training
    assert (training.labelled, training.ema_half_life) == (100, Schedule(0.0, 9.0, 5))
    assert asdict(run_config({"family": "vae"}, "vae").training)["labelled"] is None
    with pytest.raises(ConfigError, match=r"training.labelled: must be at least 1, not 0"):
        run_config(values, "vae", ["labelled=0"])


@pytest.mark.parametrize(
    "path", sorted((Path(__file__).parents[1] / "presets").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_preset_can_take_the_place_of_params_yaml(path: Path) -> None:
    params = read_params(path)
    assert {model.image_size for model in params.models.values()} == {params.evaluation.image_size}


def test_the_gallery_judges_as_the_demo_does() -> None:
    """So that their models may stand in one table."""
    root = Path(__file__).parents[1]
    gallery, demo = read_params(root / "presets" / "gallery.yaml"), read_params(root / "params.yaml")
    assert (gallery.evaluation, gallery.gate) == (demo.evaluation, demo.gate)
    assert not gallery.models.keys() & demo.models.keys()


def test_make_gallery_trains_both_lists_in_a_clone(tmp_path: Path) -> None:
    """The recipe itself, with what it would run in the clone put in place of the line."""
    root, project = Path(__file__).parents[1], tmp_path / "project"
    for name in ("Makefile", "params.yaml", "requirements.lock", "pyproject.toml", "presets/gallery.yaml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, project / name)
    git = ["git", "-C", str(project), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "-m", "all"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$PWD $*" >> "$PWD/ran"\n')
    python.chmod(0o755)
    (tmp_path / "venv" / ".ready").touch()
    before = (project / "params.yaml").read_bytes()
    for _ in range(2):
        old = [word for name in ("requirements.lock", "pyproject.toml") for word in ("-o", name)]
        subprocess.run(["make", "-C", project, "gallery", f"VENV={tmp_path / 'venv'}", *old], check=True)
    assert (project / "gallery/ran").read_text() == f"{project}/gallery -m flows.retrain\n" * 2
    found = read_params(project / "gallery/params.yaml")
    lists = (root / "presets/gallery.yaml", root / "params.yaml")
    assert list(found.models) == [name for path in lists for name in read_params(path).models]
    assert (project / "params.yaml").read_bytes() == before and not (project / "ran").exists()
