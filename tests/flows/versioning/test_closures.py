"""What a change of code concerns: DVC's real graph and the real code, with a stand-in for each long stage."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from flows import stages
from flows.versioning import closures
from flows.versioning import dvc as versioning
from genmodel.errors import VersioningError
from tests.flows.toy_project import Toy, environment

ROOT = Path(__file__).parents[3]

# trains for five steps more than before, and is gone without a word, as by kill -9; with another seed it is another one
TRAIN = """
import os, sys
from pathlib import Path
from genmodel.params import run_config
from genmodel.data.block import Block
from genmodel.showing.display import Display
from genmodel.training.identify import identify
from genmodel.training.trainer import Training, run_folder
values = {"family": "dcgan", "image_size": 8, "network": {"base_channels": 4, "latent_dim": 6}}
values["training"] = {"batch_size": 8, "threads": 1, "images": 4000, "checkpoint_every": 8}
block = Block.open(Path(sys.argv[1]))
identity = identify("toy", run_config(values, "toy"), block)
training = Training(identity, block, run_folder(identity, Path("runs")), "cpu", False, watcher=Display())
print(training.images_seen)
for _ in range(5):
    training.step()
    training.record_and_save()
training.checkpoints.wait()
sys.stdout.flush()
os._exit(9)
"""

Change = Callable[[Toy], None]


def add_a_family(toy: Toy) -> None:
    """With a part of its own."""
    source = (toy.root / "genmodel/models/vae.py").read_text()
    toy.write("genmodel/models/coupling.py", "FACTOR = 2\n")
    toy.write("genmodel/models/mine.py", source + "\nfrom genmodel.models.coupling import FACTOR\n")
    line = '    "vae": "genmodel.models.vae:VAE",\n'
    toy.replace("genmodel/models/families.py", line, line + '    "mine": "genmodel.models.mine:VAE",\n')


def add_settings(toy: Toy) -> None:
    field = "    ema_half_life:"
    toy.replace("genmodel/settings/config.py", field, f"    lookahead: Annotated[int, Range(0)] = 3\n{field}")
    toy.replace(
        "genmodel/settings/config.py", "    classifier_images:", "    lookahead: Count = 3\n    classifier_images:"
    )


def change_the_replay(toy: Toy) -> None:
    toy.replace("genmodel/showing/replay.py", "TICKS = 64", "TICKS = 65")


def change_words(toy: Toy) -> None:
    """Of an error, of a comment, of a bar."""
    toy.replace("genmodel/data/block.py", "prepare the block again", "make the block again")
    engine = (toy.root / "genmodel/training/step/engine.py").read_text()
    toy.write("genmodel/training/step/engine.py", engine.replace('"""', '"""In other words: ', 1) + "# A comment.\n")
    toy.write("genmodel/output/progress.py", (toy.root / "genmodel/output/progress.py").read_text() + "\nMORE = 1\n")


def change_the_vae(toy: Toy) -> None:
    toy.replace("genmodel/models/vae.py", "nn.SiLU(inplace=True)", "nn.ReLU(inplace=True)")
    toy.replace(
        "genmodel/models/vae.py",
        "beta: Annotated[float | Schedule, Range(0)] = 1.0",
        "beta: Annotated[float | Schedule, Range(0)] = 1.5",
    )


KEEPING = {
    "a family": add_a_family,
    "settings": add_settings,
    "the replay": change_the_replay,
    "words": change_words,
    "another family": change_the_vae,
}


def status(toy: Toy) -> set[str]:
    """The stages that `dvc status` names, those apart that it always names."""
    found = json.loads(toy.dvc("status", "--json"))
    return {name for name, why in found.items() if why != ["always changed"]}


def reran(toy: Toy) -> set[str]:
    """What `dvc repro` runs, as `flows.retrain` foretells it too."""
    closures.refresh(toy.root)
    foretold = versioning.changed(toy.root)
    toy.dvc("repro", "--quiet")
    ran = set(toy.ran())
    assert ran == foretold | {"register"}
    assert status(toy) == set()
    return ran - {"register"}


def of(family: str) -> set[str]:
    return {f"train@{family}", f"evaluate@{family}", "compare"}


@pytest.mark.slow
def test_what_does_not_concern_a_model_names_and_runs_nothing_of_it(line: Toy) -> None:
    assert status(line) == set()
    for what, change in KEEPING.items():
        change(line)
        assert status(line) == {"code"}, what
        closures.refresh(line.root)
        assert status(line) == ({"train@vae", "evaluate@vae"} if change is change_the_vae else set()), what
        assert reran(line) == (of("vae") if change is change_the_vae else set()), what


@pytest.mark.slow
def test_a_layer_retrains_those_who_use_it_and_a_default_those_who_read_it(line: Toy) -> None:
    line.replace("genmodel/models/parts/augment.py", "moved, -1.0)", "moved, 1.0)")
    assert reran(line) == of("dcgan")
    line.replace("genmodel/settings/config.py", "Schedule, Range(0)] = 10_000", "Schedule, Range(0)] = 9_000")
    both = of("dcgan") | of("vae")
    assert reran(line) == both
    line.replace("genmodel/evaluation/figures/pairwise.py", "NEAREST = ", "NEAREST = 1 + ")
    assert reran(line) == {"reference", "evaluate@dcgan", "evaluate@vae", "compare"}
    line.replace("genmodel/evaluation/telling/page.html.j2", "<", " <")
    assert reran(line) == {"compare"}


@pytest.mark.slow
def test_a_killed_training_goes_on_after_each_of_these_changes(line: Toy, block) -> None:
    line.write("train.py", TRAIN)

    def trained() -> int:
        """Images seen before this sitting."""
        command = [sys.executable, "train.py", str(block.path)]
        done = subprocess.run(
            command, cwd=line.root, env=environment() | {"PYTHONPATH": "."}, capture_output=True, text=True
        )
        assert done.returncode == 9, done.stderr
        return int(done.stdout)

    assert trained() == 0
    for place, (what, change) in enumerate(KEEPING.items(), 1):
        change(line)
        assert trained() == 40 * place, what
    line.replace("genmodel/models/parts/augment.py", "moved, -1.0)", "moved, 1.0)")
    assert trained() == 0, "another layer, another training"


def test_code_that_was_edited_after_dvc_had_looked_is_not_run(project: Path, fails) -> None:
    """Or it would be recorded as the code before."""
    closures.write()
    path = project / "closures/train/vae.json"
    known = json.loads(path.read_text())
    assert stages.main(["train", "small"]) == 0
    path.write_text(json.dumps({**known, "genmodel.models.vae": "0" * 64}))
    assert fails("train", "small") == (
        "genmodel.models.vae changed after `dvc repro` had looked: run the same command again"
    )
    path.write_text("{")
    assert fails("train", "small") == "closures/train/vae.json is damaged: run `dvc repro -f -s code`"
    (project / "closures/reference.json").write_text("{}")
    assert " more changed after" in fails("reference") and not (project / "reference").exists()


def test_a_project_without_such_a_stage_is_left_alone(toy: Toy) -> None:
    versioning.add(toy.root, {"source": "digits", "sizes": [8]})
    closures.refresh(toy.root)
    assert toy.ran() == []


def test_code_that_is_not_python_is_told_in_a_line(line: Toy) -> None:
    line.write("genmodel/models/vae.py", "def (\n")
    with pytest.raises(VersioningError, match=r"^code failed: \S+/vae.py is not valid Python: [^\n]+$"):
        closures.refresh(line.root)


def test_every_stage_that_has_a_closure_depends_on_it() -> None:
    graph = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    deps = {name: stage.get("do", stage)["deps"] for name, stage in graph.items()}
    for stage in closures._ROOTS:
        assert f"closures/{stage}.json" in deps[stage]
    for stage in closures._OF_FAMILY:
        assert f"closures/{stage}/${{item.family}}.json" in deps[stage]
    assert {name for name, found in deps.items() if any(dep.endswith(".py") for dep in found)} == set()
