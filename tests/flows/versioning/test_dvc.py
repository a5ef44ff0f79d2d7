"""DVC's graph and versions, on a toy project with real DVC."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flows.versioning import dvc as versioning
from flows.versioning import repro
from genmodel.errors import VersioningError
from genmodel.params import read_params

ROOT = Path(__file__).parents[3]
ORIGIN = {"source": "digits", "sizes": [16]}
ALL = {"train@dcgan", "train@vae", "evaluate@dcgan", "evaluate@vae", "compare", "register"}


def test_the_graph_is_dvc_s_own(toy) -> None:
    toy.dvc("add", "data")
    stages = versioning.graph(toy.root)
    needs = {stage.name: set(stage.needs) for stage in stages}
    assert needs == {
        "train@dcgan": set(),
        "train@vae": set(),
        "evaluate@dcgan": {"train@dcgan"},
        "evaluate@vae": {"train@vae"},
        "compare": {"evaluate@dcgan", "evaluate@vae"},
        "register": {"compare"},
    }
    names = [stage.name for stage in stages]
    assert all(names.index(need) < names.index(stage.name) for stage in stages for need in stage.needs)
    vae = next(stage for stage in stages if stage.name == "train@vae")
    assert vae.command == "python stages.py train vae"
    assert (vae.description, vae.deadline, vae.tags) == ("Train vae", 120.0, ("gpu",))
    compare = next(stage for stage in stages if stage.name == "compare")
    assert (compare.description, compare.deadline, compare.tags) == ("", None, ())


def test_models_come_in_the_order_of_params_yaml(toy) -> None:
    def models() -> list[str]:
        with versioning.opened(toy.root) as repo:
            return [name for stage in versioning._stages(repo) if (name := stage.name.partition("@")[2])]

    assert models() == ["dcgan", "dcgan", "vae", "vae"], "each is judged soon after its training"
    toy.replace(
        "params.yaml", "  dcgan: {images: 1}\n  vae: {images: 2}\n", "  vae: {images: 2}\n  dcgan: {images: 1}\n"
    )
    assert models() == ["vae", "vae", "dcgan", "dcgan"]


def test_a_change_concerns_its_stages_and_what_follows(toy) -> None:
    """What `changed` foretells is what `dvc repro` then runs; a second `dvc repro` runs nothing."""
    versioning.add(toy.root, ORIGIN)
    assert versioning.changed(toy.root) == ALL
    toy.dvc("repro", "--quiet")
    assert set(toy.ran()) == ALL
    assert versioning.changed(toy.root) == set()
    toy.dvc("repro", "--quiet")
    assert toy.ran() == []

    toy.replace("params.yaml", "vae: {images: 2}", "vae: {images: 3}")
    follows = {"train@vae", "evaluate@vae", "compare", "register"}
    assert versioning.changed(toy.root) == follows
    toy.dvc("repro", "--quiet")
    assert set(toy.ran()) == follows

    toy.replace("params.yaml", "margin: 0.1", "margin: 0.2")
    assert versioning.changed(toy.root) == {"register"}


def test_the_committed_lock_is_of_one_run_of_today_s_models() -> None:
    """Whatever stages have in common, they have used or made the same bytes of it."""
    stages = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    models = set(yaml.safe_load((ROOT / "params.yaml").read_text())["models"])
    assert {name.partition("@")[2] for name in stages} == models | {""}
    data = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    files = data + [each for stage in stages.values() for each in (*stage.get("deps", ()), *stage.get("outs", ()))]
    digests = {
        path: {each["md5"] for each in files if each["path"] == path} for path in {each["path"] for each in files}
    }
    assert {path for path, found in digests.items() if len(found) > 1} == set()
    assert {"data", "models", "reports", "ranking.csv"} <= digests.keys()


def test_data_is_versioned_to_the_byte(toy) -> None:
    digest = versioning.add(toy.root, ORIGIN)
    written = (toy.root / "data.dvc").read_bytes()
    assert len(digest) == 36
    assert digest.endswith(".dir")
    assert versioning.digest(toy.root) == digest
    assert versioning.origin(toy.root) == ORIGIN
    assert versioning.matches(toy.root)
    assert versioning.add(toy.root, ORIGIN) == digest
    assert (toy.root / "data.dvc").read_bytes() == written

    os.chmod(toy.root / "data/block.json", 0o644)  # noqa: PTH101
    toy.write("data/more.npy", "1")
    assert not versioning.matches(toy.root)
    other = versioning.add(toy.root, {**ORIGIN, "sizes": [16, 32]})
    assert other != digest
    assert versioning.origin(toy.root)["sizes"] == [16, 32]
    assert versioning.matches(toy.root)


def test_data_comes_back_from_the_cache_or_the_remote_or_not_at_all(toy, tmp_path: Path) -> None:
    versioning.add(toy.root, ORIGIN)
    assert versioning.push(toy.root) is None, "no remote is set"
    shutil.rmtree(toy.root / "data")
    assert versioning.restore(toy.root), "the cache has it"
    assert versioning.matches(toy.root)

    toy.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    assert versioning.push(toy.root) == "store"
    shutil.rmtree(toy.root / "data")
    shutil.rmtree(toy.root / ".dvc/cache")
    assert versioning.restore(toy.root), "the remote has it"
    assert versioning.matches(toy.root)

    for place in (toy.root / "data", toy.root / ".dvc/cache", tmp_path / "store"):
        shutil.rmtree(place)
    assert not versioning.restore(toy.root), "nobody has it"


def test_a_remote_that_is_not_there(toy, tmp_path: Path) -> None:
    versioning.add(toy.root, ORIGIN)
    (tmp_path / "store").write_text("a file")
    toy.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    with pytest.raises(VersioningError, match=r"^DVC: [^\n]+$"):
        versioning.push(toy.root)


def test_troubles_are_one_line_that_names_the_fix(toy, tmp_path: Path) -> None:
    with pytest.raises(VersioningError, match=r"data.dvc is missing: .*flows.prepare --source"):
        versioning.digest(toy.root)
    with pytest.raises(VersioningError, match=r"is not a DVC project: .*dvc init"):
        versioning.graph(tmp_path)
    toy.write("data.dvc", "outs: []")
    with pytest.raises(VersioningError, match="names no digest"):
        versioning.digest(toy.root)
    toy.write("data.dvc", "- : -")
    with pytest.raises(VersioningError, match=r"^[^\n]+$"):
        versioning.digest(toy.root)
    (toy.root / "data.dvc").unlink()
    toy.replace("dvc.yaml", "${models}", "${modles}")
    with pytest.raises(VersioningError, match=r"^DVC: [^\n]*modles[^\n]*$"):
        versioning.graph(toy.root)
    toy.replace("dvc.yaml", "${modles}", "${models}")
    toy.replace("dvc.yaml", "deadline_minutes: 2", "deadline_minutes: soon")
    with pytest.raises(VersioningError, match=r"train@dcgan: meta.deadline_minutes must be a number"):
        versioning.graph(toy.root)


def test_only_a_conflict_before_the_start_is_tried_again(toy, run_command: Callable) -> None:
    """All of these exit with 255; the output tells them apart. Real DVC wrote it."""
    versioning.add(toy.root, ORIGIN)
    command = versioning.repro_command("train@vae")
    lock = toy.root / ".dvc/tmp/rwlock"

    def output() -> list[str]:
        done = run_command(command, toy.root)
        assert done.returncode == 255
        return (done.stdout + done.stderr).splitlines()

    holder = {"pid": os.getpid(), "cmd": "dvc repro"}
    lock.write_text(json.dumps({"write": {str(toy.root / "models/vae"): holder}, "read": {}}))
    busy = output()
    assert repro.is_lock_conflict(busy), busy
    assert toy.ran() == []
    lock.unlink()

    toy.write("trick-train-vae.py", "import sys; sys.exit('error: the learning rate is too high')")
    broken = output()
    assert not repro.is_lock_conflict(broken), broken
    assert repro.failure(broken) == "the learning rate is too high"

    toy.write("trick-train-vae.py", "print('ERROR: Unable to acquire lock'); sys.exit(1)")
    assert not repro.is_lock_conflict(output()), "the stage's own words are not DVC's"
    toy.ran()

    shutil.rmtree(toy.root / "data")
    missing = output()
    assert not repro.is_lock_conflict(missing)
    assert "data" in repro.failure(missing)
    assert toy.ran() == []


def test_a_lock_lost_after_the_training_is_no_reason_to_train_again() -> None:
    lost = ["Running stage 'train@vae':", "> python ...", "done", "ERROR: Unable to acquire lock. Most likely another"]
    assert not repro.is_lock_conflict(lost)
    assert repro.is_lock_conflict(lost[3:])
    assert repro.failure([]) == "it ended without a message"


@pytest.fixture
def real_graph() -> dict:
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def test_the_real_graph_names_code_that_is_there(real_graph: dict) -> None:
    for name, stage in real_graph.items():
        deps = stage.get("do", stage)["deps"]
        missing = [dep for dep in deps if dep.startswith("genmodel") and not (ROOT / dep).exists()]
        assert missing == [], name


def test_a_change_of_one_model_in_the_real_graph(empty_project) -> None:
    """dvc.yaml and params.yaml as they are, commands and code replaced."""
    toy = empty_project
    text = (ROOT / "dvc.yaml").read_text()
    for ending in ("html.j2", "css", "js"):
        toy.write(f"genmodel/evaluation/telling/page.{ending}", "")
    toy.write("dvc.yaml", text.replace("python -m flows.stages", "python stages.py"))
    shutil.copy(ROOT / "params.yaml", toy.root)
    toy.write("data/block.json", "{}")
    toy.write("stages.py", REAL_STAGES)
    versioning.add(toy.root, ORIGIN)
    toy.dvc("repro")
    assert versioning.changed(toy.root) == set()
    params = yaml.safe_load((toy.root / "params.yaml").read_text())
    params["models"]["vae"]["training"]["images"] += 1
    toy.write("params.yaml", yaml.safe_dump(params))
    assert versioning.changed(toy.root) == {"train@vae", "evaluate@vae", "compare", "register"}


def test_a_matrix_over_seeds_takes_a_line_a_seed(empty_project) -> None:
    """As params.yaml itself tells it: two more seeds of one recipe, each with stages of its own."""
    toy, text = empty_project, (ROOT / "params.yaml").read_text()
    lines = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("#   vae-")]
    assert len(lines) == 2
    toy.write("params.yaml", text.replace("\nevaluation:", "\n".join(["", *lines, "\nevaluation:"]), 1))
    shutil.copy(ROOT / "dvc.yaml", toy.root)
    versions = ("vae", "vae-1", "vae-2")
    models = read_params(toy.root / "params.yaml").models
    assert [models[name].training.seed for name in versions] == [0, 1, 2]
    assert len({replace(models[name], training=replace(models[name].training, seed=0)) for name in versions}) == 1
    assert {f"train@{name}" for name in versions} <= {stage.name for stage in versioning.graph(toy.root)}


REAL_STAGES = """
import os, pathlib, sys, yaml
FAMILIES = {model["family"] for model in yaml.safe_load(pathlib.Path("params.yaml").read_text())["models"].values()}
stage, name = sys.argv[1], os.environ["DVC_STAGE"].rpartition("@")[2]
outs = {
    "code": [
        *(f"closures/{stage}.json" for stage in ("reference", "compare")),
        *(f"closures/{stage}/{family}.json" for stage in ("train", "evaluate") for family in FAMILIES),
    ],
    "reference": ["reference/r", "reference/bounds.json"],
    "train": [f"models/{name}/w"],
    "evaluate": [f"reports/{name}.json", f"reports/{name}-neighbours.png", f"figures/{name}.json"],
    "compare": ["ranking.csv", "plots/ranking.svg"],
    "register": [],
}
for out in outs[stage]:
    pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(out).write_text("{}")
"""


def test_a_model_that_nothing_can_give_is_trained_again(toy) -> None:
    """Where no remote is set, `dvc pull` would only fail."""
    data, model = versioning.add(toy.root, ORIGIN), "1" * 32 + ".dir"
    assert versioning.restore_commands(toy.root, "train@vae", data, model)[-2:] == [
        "dvc checkout data.dvc",
        "dvc repro train@vae",
    ]
    toy.dvc("remote", "add", "--default", "stored", str(toy.root.parent / "remote"))
    assert versioning.restore_commands(toy.root, "train@vae", data, model)[-1] == "dvc pull data.dvc train@vae"
