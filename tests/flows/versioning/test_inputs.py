"""A stage whose inputs change while it runs leaves nothing that DVC could record; and no name reaches a shell."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import retrain, stages
from genmodel.training.trainer import Training
from tests.flows.small_project import change
from tests.flows.toy_project import Toy

DVC_YAML = """
stages:
  train:
    foreach: ${models}
    do:
      cmd: python -m flows.stages train
      deps: [data]
      params: ["models.${key}"]
      outs: ["models/${key}"]
"""
HOSTILE = [
    "$(touch pwned)",
    "a; touch pwned",
    "a'$(touch pwned)'",
    "`touch pwned`",
    'a"; touch pwned; "',
    "a\ntouch pwned",
]


@pytest.fixture
def midway(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], object]], None]:
    """midway(act): act once, after 4,000 images of the next training."""
    (project / "dvc.yaml").write_text(DVC_YAML)

    def arrange(act: Callable[[], object]) -> None:
        step = Training.step
        todo = [act]

        def stepped(self: Training) -> None:
            step(self)
            if self.images_seen >= 4000 and todo:
                todo.pop()()

        monkeypatch.setattr(Training, "step", stepped)

    return arrange


def test_a_setting_edited_in_mid_training_is_not_recorded_as_used(project: Path, fails, midway) -> None:
    midway(lambda: change(project, "base_channels: 4, learning_rate: 0.01", "base_channels: 4, learning_rate: 0.02"))
    said = fails("train", "small")
    assert said.splitlines()[-1].endswith(
        "params.yaml: models.small changed while train@small ran, so that what it made is not kept: run again"
    )
    assert not (project / "models/small").exists()
    assert list(project.glob("runs/*/checkpoints/*.json")), "the training itself is kept"


def test_a_setting_of_another_model_concerns_nobody(project: Path, midway) -> None:
    midway(lambda: change(project, "base_channels: 8", "base_channels: 6"))
    assert stages.main(["train", "small"]) == 0
    assert (project / "models/small/config.json").exists()


def test_data_replaced_in_mid_training_are_not_recorded_as_used(project: Path, fails, midway) -> None:
    midway(lambda: (project / "data/block.json").write_text((project / "data/block.json").read_text() + " "))
    assert "data/block.json changed while train@small ran" in fails("train", "small")
    assert not (project / "models/small").exists()


def test_a_touch_is_no_change(project: Path, midway) -> None:
    midway(lambda: (project / "data/block.json").touch())
    assert stages.main(["train", "small"]) == 0


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_runs_nothing(name: str, toy: Toy, run_command, monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    import yaml

    root = Path(__file__).parents[3]
    real = yaml.safe_load((root / "dvc.yaml").read_text())["stages"]
    assert not [stage for stage in real.values() if "$" in stage.get("do", stage)["cmd"]]
    toy.write("params.yaml", yaml.safe_dump({"models": {name: {"images": 1}}, "evaluation": {}, "gate": {}}))
    toy.write("dvc.yaml", DVC_YAML)
    toy.dvc("add", "data")
    monkeypatch.setenv("PYTHONPATH", str(root))
    done = run_command(["python", "-m", "dvc", "repro"], toy.root)
    assert done.returncode != 0, done.stdout
    assert not list(toy.root.rglob("pwned"))

    monkeypatch.chdir(toy.root)
    with pytest.raises(SystemExit, match="2"):
        retrain.main([])
    assert f"params.yaml: models: {name!r} is not a valid model name" in capfd.readouterr().err
    assert not list(toy.root.rglob("pwned")) and shutil.which("touch")
