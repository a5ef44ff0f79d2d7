"""What the stages of a small project decide: champions, answers from before, and models that are only compared."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flows.registry import __main__ as registry_command
from flows.registry.registry import CHAMPION, PREVIOUS, Registry
from flows.settings import Settings
from flows.telling import outcome
from flows.tracking import Tracker
from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from tests.flows.small_project import change, decision, run


def test_the_champion_is_judged_anew_under_todays_conditions(decided: Path, settings: Settings) -> None:
    project = decided
    first = decision(project)
    assert (first["outcome"], first["champion"]) == ("promote", None)

    change(project, "  small:", "  other:")
    change(project, "base_channels: 4", "base_channels: 8")
    change(project, "samples: 16", "samples: 32")
    run("reference", "train other", "evaluate other", "compare", "register")
    second = decision(project)
    assert second["candidate"]["name"] == "other"
    assert second["champion"]["name"] == "small"
    assert second["champion"]["weights"] == first["candidate"]["weights"]
    assert second["champion"]["value"] != first["candidate"]["value"], "32 samples, not the 16 of its own report"

    registry = Registry(Tracker(settings))
    better = second["candidate"]["value"] < second["champion"]["value"]
    champion = registry.version(CHAMPION)
    assert champion is not None
    assert champion.tags["genmodel.weights"] == second["candidate" if better else "champion"]["weights"]
    assert (registry.version(PREVIOUS) is not None) == better
    assert second["outcome"] == ("promote" if better else "reject")

    run("register")
    assert decision(project) == second, "the same request is answered as before"
    assert {path.name for path in project.iterdir() if path.name.startswith("tmp")} == set()


def shown(project: Path) -> str:
    return str(outcome.champion(project))


def settled(project: Path) -> dict[str, bytes]:
    return {name: (project / name).read_bytes() for name in ("decision.json", "decision.md", "promotions.jsonl")}


def test_the_registry_is_always_asked_and_what_it_holds_is_shown(decided: Path, empty_database: Path) -> None:
    """Once more, with other settings, with those of before, and with a registry that was lost."""
    assert re.match(
        r"version 1, small, fd_pixels \S+, is the new champion \(promote: There was no champion", shown(decided)
    )
    before = settled(decided)
    for name in ("decision.json", "decision.md"):
        (decided / name).unlink()
    run("register")
    assert settled(decided) == before, "the same decision, the same bytes"
    assert re.fullmatch(r"unchanged: version 1, small, fd_pixels \S+, is still champion", shown(decided))
    change(decided, "max_copied: 1", "max_copied: 0.9")
    run("register")
    assert "is still champion (inconclusive: Unchanged" in shown(decided)
    change(decided, "max_copied: 0.9", "max_copied: 1")
    run("register")
    assert "no champion" not in shown(decided) and decision(decided)["outcome"] == "inconclusive"

    shutil.copy(empty_database, decided / "mlflow.db")
    run("register")
    assert "version 1, small" in shown(decided) and "is the new champion (promote" in shown(decided)
    (decided / "champion.json").write_text("{")
    assert "champion.json cannot be read: `python -m flows.stages register`" in shown(decided)


def test_an_answer_from_before_needs_no_torch(decided: Path, settings: Settings) -> None:
    code = "import sys; from flows import stages; stages.main(['register']); assert 'torch' not in sys.modules"
    environment = {**os.environ, **settings.environment}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.startswith("unchanged: version 1"), told.stderr


def test_a_comparison_needs_neither_torch_nor_mlflow(decided: Path, settings: Settings) -> None:
    code = "import sys; from flows import stages; stages.main(['compare']); print({'torch', 'mlflow'} & {*sys.modules})"
    environment = {**os.environ, **settings.environment}
    told = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert told.returncode == 0 and told.stdout.endswith("set()\n"), told.stdout + told.stderr


def test_an_experiment_of_dvc_registers_nothing(decided: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = settled(decided)
    change(decided, "max_copied: 1", "max_copied: 0.9")
    monkeypatch.setenv("DVC_EXP_BASELINE_REV", "c" * 40)
    run("register")
    assert settled(decided) == before
    monkeypatch.delenv("DVC_EXP_BASELINE_REV")
    run("register")
    assert settled(decided) != before


def test_a_champion_of_another_size_is_told_with_what_to_do(decided: Path, settings: Settings, block: Block) -> None:
    shutil.rmtree(decided / "data")
    prepare(str(block.path.parent / "raw"), decided / "data", [8, 16], workers=1)
    text = (decided / "params.yaml").read_text()
    (decided / "params.yaml").write_text(text.replace("image_size: 8", "image_size: 16"))
    run("reference", "train small", "evaluate small", "compare", "register")
    told = decision(decided)
    assert told["outcome"] == "inconclusive" and told["champion"]["name"] == "small"
    (reason,) = told["reasons"]
    assert "version 1, cannot be judged and stays: it makes images of 8 px, and today's models of 16 px." in reason
    assert "python -m flows.registry retire" in reason and "GENMODEL_REGISTERED_NAME" in reason
    assert Registry(Tracker(settings)).find("champion").number == "1"
    assert registry_command.main(["retire", "--reason", "photos at 16 px"]) == 0
    run("register")
    assert Registry(Tracker(settings)).find("champion").number == "2"


def test_a_champion_that_cannot_be_judged_is_an_answer(decided: Path, settings: Settings) -> None:
    """Of another data set, or damaged; promoted beside it is nobody."""
    registry = Registry(Tracker(settings))
    config = next((decided / "mlartifacts").rglob("extra_files/config.json"))
    whole, dataset = config.read_bytes(), registry.find("1").tags["genmodel.dataset"]
    change(decided, "learning_rate: 0.01", "learning_rate: 0.02")
    run("train small", "evaluate small", "compare")
    config.write_bytes(whole + b" ")
    run("register")
    (reason,) = decision(decided)["reasons"]
    assert "version 1 of genmodel is damaged: its package is not the one that was registered" in reason

    other = {**json.loads(dataset), "source": "photos", "first": "0" * 16}
    registry.tag("1", {"genmodel.dataset": json.dumps(other)})
    change(decided, "max_copied: 1", "max_copied: 0.8")
    run("register")
    (reason,) = decision(decided)["reasons"]
    assert "it was trained on another data set (photos, " in reason
    assert registry.find("champion").number == "1"
