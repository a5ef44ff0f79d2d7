"""The commands behind the stages, each by itself: what goes wrong is one line, and what was made is kept."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows import outcome, stages
from flows.registry import __main__ as registry_command
from flows.registry.registry import CHAMPION, PREVIOUS, Registry
from flows.settings import Settings
from flows.tracking import Tracker
from genmodel.data.block import Block
from genmodel.data.making.make import prepare

DATA_DVC = "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n"
PARAMS = """
models:
  small: {VAE, network: {latent_dim: 4, base_channels: 4, learning_rate: 0.01}}
  large: {VAE, network: {latent_dim: 4, base_channels: 8, learning_rate: 0.01}}
evaluation: {samples: 16, extractor: pixels, image_size: 8}
gate: {intervals: false, min_precision: 0, min_recall: 0, max_copied: 1}
""".replace("VAE", "family: vae, image_size: 8, training: {images: 8000}")  # long enough to be found healthy

AWAY = (
    "cannot reach the tracking server at http://127.0.0.1:1: "
    "start it, or unset MLFLOW_TRACKING_URI, and run the same command again"
)

SLOW = ("takes too long", "is not in MLflow: the model is safe")  # of a follower on a machine that is busy

Stage = Callable[..., str]


@pytest.fixture
def project(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Path:
    """A project with versioned data and two tiny models to train, and an MLflow of its own."""
    shutil.copytree(block.path, tmp_path / "data")
    (tmp_path / "data.dvc").write_text(DATA_DVC)
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def fails(project: Path, capfd: pytest.CaptureFixture[str]) -> Stage:
    """fails(words) -> the one line of a stage that must fail as a user's mistake."""

    def run(*words: str) -> str:
        capfd.readouterr()
        with pytest.raises(SystemExit, match="2"):
            stages.main(list(words))
        told = capfd.readouterr().err.splitlines(keepends=True)
        said = "".join(line for line in told if not any(words in line for words in SLOW))
        assert said.startswith("error: ") and said.count("\n") == 1, said
        return said.removeprefix("error: ").strip()

    return run


def run(*lines: str) -> None:
    for line in lines:
        assert stages.main(line.split()) == 0


def change(project: Path, old: str, new: str) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new))


def test_a_model_that_params_yaml_has_not(project: Path, fails: Stage) -> None:
    for stage in ("train", "evaluate"):
        assert fails(stage, "smal") == "params.yaml has no model 'smal', only small, large"
    assert not (project / "models/small").exists() and not (project / "reports").exists()


def test_what_a_stage_needs_and_has_not(project: Path, fails: Stage) -> None:
    assert fails("evaluate", "small").startswith("reference/reference.json is missing: bring it back (dvc checkout")
    run("reference")
    assert fails("evaluate", "small").startswith("models/small/config.json is missing: train the model")
    assert fails("register") == "ranking.csv is missing: run `dvc repro compare` first"
    run("train small", "evaluate small", "train large")
    assert fails("compare") == "reports/large.json is missing: run `dvc repro -f -s evaluate@large` first"
    assert not (project / "ranking.csv").exists()


@pytest.mark.parametrize("stage", [["reference"], ["train", "small"]])
def test_damaged_data_is_named_before_anything_is_learnt_from_it(stage: list[str], project: Path, fails: Stage) -> None:
    shard = project / "data/8/shard-00000.npy"
    content = bytearray(shard.read_bytes())
    content[1000] ^= 1
    shard.write_bytes(content)
    assert re.match(r"data/8/shard-00000.npy:? is damaged", fails(*stage))
    assert not (project / "models/small").exists() and not (project / "reference").exists()


def test_data_that_is_not_versioned(project: Path, fails: Stage) -> None:
    (project / "data.dvc").unlink()
    assert "data.dvc is missing: version some data first" in fails("train", "small")


def test_without_a_tracking_server_the_training_is_kept_and_sent_later(
    project: Path, fails: Stage, monkeypatch: pytest.MonkeyPatch, settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    run("reference", "train small", "train large")
    said = capfd.readouterr().err
    for name in ("small", "large"):
        assert f"the end of the training of {name} is not in MLflow: the model is safe, and its evaluation" in said
    assert said.count("cannot reach the tracking server at http://127.0.0.1:1; ") == 2
    assert fails("evaluate", "small") == AWAY

    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    run("evaluate small", "train large")
    fingerprint = json.loads((project / "models/small/config.json").read_text())["fingerprint"]
    sent = Tracker(settings).run(fingerprint)
    assert sent.info.status == "FINISHED"
    assert sent.data.metrics["images_seen"] == 8000
    assert {"loss/negative_elbo", "throughput/images_per_second", "eval/fd_pixels"} <= sent.data.metrics.keys()


def test_without_a_tracking_server_the_other_stages_fail_in_a_line(
    project: Path, fails: Stage, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    run("reference", "train small", "train large", "evaluate small", "evaluate large", "compare")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    for stage in (["evaluate", "small"], ["register"]):
        assert fails(*stage) == AWAY
    assert not (project / "decision.json").exists()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", settings.tracking_uri)
    run("evaluate small", "register")
    assert (project / "decision.json").exists()
    best, other = (outcome_of(name, project, settings) for name in ranked(project))
    assert (best, other) == ("promoted", "outranked")
    run("register")
    assert [outcome_of(name, project, settings) for name in ranked(project)] == ["promoted", "outranked"], "as before"


def ranked(project: Path) -> list[str]:
    lines = (project / "ranking.csv").read_text().splitlines()
    return [line.split(",")[lines[0].split(",").index("model")] for line in lines[1:]]


def outcome_of(name: str, project: Path, settings: Settings) -> str:
    fingerprint = json.loads((project / "models" / name / "config.json").read_text())["fingerprint"]
    return str(Tracker(settings).run(fingerprint).data.tags["genmodel.outcome"])


def decision(project: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((project / "decision.json").read_text())
    return told


def test_the_champion_is_judged_anew_under_todays_conditions(project: Path, settings: Settings) -> None:
    change(project, "  large:", "  other:")
    text = (project / "params.yaml").read_text()
    small, other = (next(line for line in text.splitlines() if f" {name}:" in line) for name in ("small", "other"))
    change(project, other + "\n", "")
    run("reference", "train small", "evaluate small", "compare", "register")
    first = decision(project)
    assert (first["outcome"], first["champion"]) == ("promote", None)

    change(project, small, other)
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


DECIDES = [
    ("models/small/config.json", ["evaluate small", "compare", "register"]),
    ("models/small/history.csv", ["evaluate small", "compare"]),
    ("models/small/timeline.png", ["evaluate small", "compare"]),
    ("reference/reference.json", ["reference", "evaluate small"]),
    ("reports/small.json", ["compare", "register"]),
    ("reports/large.json", ["compare", "register"]),
    ("ranking.csv", ["register"]),
    ("RUN/cost.json", ["compare"]),
    ("data/ledger-000.parquet", ["reference", "train small", "evaluate small"]),
    ("data/8/shard-00000.npy", ["reference", "evaluate small"]),
]


def test_what_decides_is_checked_by_every_stage_that_reads_it(project: Path, fails: Stage) -> None:
    """A bit flipped with the time stamp kept, a cut and an empty file: one line each, which names file and cure."""
    run("reference", "train small", "train large", "evaluate small", "evaluate large", "compare", "register")
    fingerprint = json.loads((project / "models/small/config.json").read_text())["fingerprint"]
    for name, readers in DECIDES:
        path = project / name.replace("RUN", f"runs/{fingerprint[:16]}")
        content, stat = path.read_bytes(), path.stat()
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        if name.endswith(".json"):  # not in the space between values
            place = content.index(b'"', middle) + 1
            flipped = content[:place] + bytes([content[place] ^ 2]) + content[place + 1 :]
        for damaged in (flipped, content[:middle], b""):
            path.write_bytes(damaged)
            os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
            for reader in readers:
                said = fails(*reader.split())
                assert str(path.relative_to(project)) in said and ": " in said, (name, reader, said)
        path.write_bytes(content)
    run("reference", "evaluate small", "compare", "register")


def test_models_that_changed_places_are_told(project: Path, fails: Stage) -> None:
    run("reference", "train small", "train large", "evaluate small", "evaluate large")
    for one, other, spare in [("small", "large", "spare")]:
        (project / "models" / one).rename(project / "models" / spare)
        (project / "models" / other).rename(project / "models" / one)
        (project / "models" / spare).rename(project / "models" / other)
    assert fails("evaluate", "small").startswith("models/small holds the model large, not small: train the model")
    assert fails("compare").startswith("models/small holds the model large, not small: train the model")


def test_settings_that_do_not_fit_the_data_are_told_before_any_training(project: Path, fails: Stage) -> None:
    change(project, "image_size: 8}", "image_size: 64}")
    for stage in (["reference"], ["train", "small"]):
        said = fails(*stage)
        assert "nothing was trained" in said and "evaluation.image_size (64)" in said
    assert not (project / "models").exists() and not (project / "reference").exists()


@pytest.fixture
def decided(project: Path) -> Path:
    """One model is champion."""
    change(project, next(line for line in PARAMS.splitlines() if " large:" in line) + "\n", "")
    run("reference", "train small", "evaluate small", "compare", "register")
    return project


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
