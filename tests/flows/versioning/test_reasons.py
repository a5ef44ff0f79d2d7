"""`flows.retrain --plan` and `--why`: what would run, and why, on DVC's real graph and the real code."""

from datetime import UTC, datetime

import pytest

from flows import retrain
from flows.costs import ledger
from flows.telling import plan
from flows.versioning import dvc as versioning
from tests.flows.toy_project import Toy

FOLLOWERS = {"evaluate@vae": "train@vae", "compare": "evaluate@vae", "register": "evaluate@vae"}


def planned(toy: Toy) -> dict[str, list[str]]:
    """Of the stages that would run; nothing runs."""
    before = (toy.root / "ran.txt").exists()
    found = {stage.name: why for stage, why in plan.plan(toy.root) if why and why != ["it is always asked"]}
    assert (toy.root / "ran.txt").exists() == before
    return found


def test_nothing_would_run_where_nothing_has_changed(line: Toy) -> None:
    assert planned(line) == {}


def test_a_setting_is_named_with_both_values(line: Toy) -> None:
    line.replace("params.yaml", "beta: 8.0", "beta: 1.5")
    line.replace("params.yaml", "      latent_dim: 10\n", "")
    found = planned(line)
    assert found["train@vae"] == [
        "params.yaml: models.vae.network.beta 8.0 -> 1.5",
        "params.yaml: models.vae.network.latent_dim 10 -> (not set)",
    ]
    assert found["evaluate@vae"] == ["it follows train@vae"]
    assert set(found) == {"train@vae", "evaluate@vae", "compare", "register"}


def test_code_that_changed_is_named(line: Toy) -> None:
    line.replace("genmodel/models/vae.py", "nn.SiLU(inplace=True)", "nn.ReLU(inplace=True)")
    found = planned(line)
    assert found["train@vae"] == ["its code changed: genmodel.models.vae"]
    assert found["evaluate@vae"] == ["its code changed: genmodel.models.vae", "it follows train@vae"]
    assert "train@dcgan" not in found


def test_other_data_and_a_missing_model_are_told(line: Toy) -> None:
    line.write("data/block.json", '{"other": 1}')
    versioning.add(line.root, {"source": "digits", "sizes": [8]})
    (line.root / "models/vae/w").unlink()
    (line.root / "models/vae").rmdir()
    found = planned(line)
    assert found["train@dcgan"] == ["data are another version"]
    assert found["train@vae"] == ["data are another version", "models/vae is missing"]


def test_a_model_that_is_new_has_not_run_yet(line: Toy) -> None:
    params = (line.root / "params.yaml").read_text()
    line.write("params.yaml", params.replace("  vae:\n", "  copied: {family: vae, image_size: 16}\n  vae:\n"))
    found = planned(line)
    assert found["train@copied"] == ["it has not run yet"]
    assert "train@vae" not in found


def test_the_table_tells_how_long_it_took(
    line: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(line.root)
    line.replace("params.yaml", "beta: 8.0", "beta: 1.5")
    for stage, seconds in (("train@vae", 83.2), ("evaluate@vae", 6.1)):
        cost = ledger.Cost(seconds=seconds)
        ledger.keep(line.root, ledger.Line(time=datetime.now(UTC), run="", stage=stage, cost=cost))
    assert retrain.main(["--plan"]) == 0
    told = capsys.readouterr().out
    (row,) = [row for row in told.splitlines() if row.startswith("train@vae")]
    assert row.split()[1] == "yes" and row.endswith("1 min 23 s")
    assert "models.vae.network.beta 8.0 -> 1.5" in row
    assert "they took 1 min 29 s last time, and 2 of unknown length" in told
    assert not (line.root / "ran.txt").exists()

    assert retrain.main(["--why", "evaluate@vae"]) == 0
    assert capsys.readouterr().out == "it follows train@vae\n"
    assert retrain.main(["--why", "train@dcgan"]) == 0
    assert "would not run" in capsys.readouterr().out


def test_a_stage_that_does_not_exist_is_one_line(
    line: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(line.root)
    with pytest.raises(SystemExit, match="2"):
        retrain.main(["--why", "train@gan"])
    told = capsys.readouterr().err
    assert "there is no stage train@gan; there are" in told and "train@vae" in told and told.count("\n") == 1
