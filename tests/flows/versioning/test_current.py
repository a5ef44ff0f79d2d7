"""A model of another recipe, other data or other code is neither judged nor compared nor registered."""

from pathlib import Path

import pytest

from flows.settings import Settings, experiment
from flows.stages import main
from flows.versioning.current import read_report
from genmodel.errors import EvaluationError
from genmodel.files import durable
from genmodel.files.model_folder import write_config
from tests.flows.small_project import change, run
from tests.reports import made_report


def test_a_model_of_another_recipe_is_refused_by_every_stage_after_its_training(evaluated: Path, fails) -> None:
    run("compare")
    change(evaluated, "base_channels: 4", "base_channels: 5")
    line = (
        "models/small is not what params.yaml and data say today (network.base_channels: 4 -> 5): "
        "run `dvc repro train@small`"
    )
    for stage in (["evaluate", "small"], ["compare"], ["register"]):
        assert fails(*stage) == line
    assert main(["evaluate", "large"]) == 0, "of the recipe that it was trained by"
    assert not (evaluated / "decision.json").exists()


def test_a_model_whose_config_is_cut_is_refused_in_a_line(evaluated: Path, fails) -> None:
    config = evaluated / "models/small/config.json"
    for content in ("", config.read_text()[:40], "[]", "{}"):
        config.write_text(content)
        told = fails("evaluate", "small")
        assert told.startswith("models/small/config.json") and "damaged" in told
        assert told.endswith("train the model again, or pull it again (dvc pull)")


def test_a_report_of_another_training_is_not_compared(evaluated: Path, fails) -> None:
    report = evaluated / "reports/small.json"
    told = durable.read_sealed(report, EvaluationError, "")
    durable.write_sealed(report, told | {"fingerprint": "0" * 64})
    assert fails("compare").startswith("reports/small.json is of another training than models/small")


def test_a_report_of_an_older_version_is_told_in_a_line(tmp_path: Path) -> None:
    told = made_report("vae", {"fd_classifier": 1.5}).as_dict()
    facts = {"name": "vae", "fingerprint": told["fingerprint"], "config": {}, "weights": told["weights"], "classes": []}
    write_config(tmp_path / "models/vae", facts)
    durable.write_sealed(tmp_path / "reports/vae.json", told)
    assert read_report("vae", root=tmp_path).figures == {"fd_classifier": 1.5}
    durable.write_sealed(tmp_path / "reports/vae.json", {key: told[key] for key in told if key != "recipe"})
    with pytest.raises(EvaluationError) as error:
        read_report("vae", root=tmp_path)
    fix = "run `dvc repro -f -s evaluate@vae` first"
    assert str(error.value) == f"{tmp_path}/reports/vae.json: recipe is missing: {fix}"


def test_a_temporary_copy_of_an_experiment_tells_the_project_s_own_mlflow(tmp_path: Path) -> None:
    copy = tmp_path / ".dvc/tmp/exps/tmpabc"
    copy.mkdir(parents=True)
    settings = Settings.read({}, copy)
    assert settings.root == copy
    assert settings.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert settings.artifacts == tmp_path / "mlartifacts"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, None),
        ({"DVC_EXP_NAME": "wide-vae", "DVC_EXP_BASELINE_REV": "1" * 40}, "wide-vae"),
        ({"DVC_EXP_BASELINE_REV": "1" * 40}, "1" * 40),
    ],
)
def test_how_a_stage_knows_that_it_is_part_of_an_experiment(environ: dict[str, str], name: str | None) -> None:
    assert experiment(environ) == name
