"""The commands behind the stages, each by itself: what goes wrong is one line, and what was made is kept."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest

from flows.settings import Settings
from flows.tracking import Tracker
from tests.flows.small_project import Stage, change, run

AWAY = (
    "cannot reach the tracking server at http://127.0.0.1:1: "
    "start it, or unset MLFLOW_TRACKING_URI, and run the same command again"
)


def test_a_model_that_params_yaml_has_not(project: Path, fails: Stage) -> None:
    for stage in ("train", "evaluate"):
        assert fails(stage, "smal") == "params.yaml has no model 'smal', only small, large"
    assert not (project / "models/small").exists() and not (project / "reports").exists()


def test_what_a_stage_needs_and_has_not(evaluated: Path, fails: Stage) -> None:
    project = evaluated
    assert fails("register") == "ranking.csv is missing: run `dvc repro compare` first"
    (project / "reports/large.json").unlink()
    assert fails("compare") == "reports/large.json is missing: run `dvc repro -f -s evaluate@large` first"
    assert not (project / "ranking.csv").exists()
    shutil.rmtree(project / "models/small")
    assert fails("evaluate", "small").startswith("models/small/config.json is missing: train the model")
    shutil.rmtree(project / "reference")
    assert fails("evaluate", "small").startswith("reference/reference.json is missing: restore it (dvc checkout")


@pytest.mark.fault("damaged file that a stage reads")
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


@pytest.mark.fault("MLflow server away")
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


@pytest.mark.fault("MLflow server away")
def test_without_a_tracking_server_the_other_stages_fail_in_a_line(
    evaluated: Path, fails: Stage, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    project = evaluated
    run("compare")
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


@pytest.mark.fault("damaged file that a stage reads")
def test_what_decides_is_checked_by_every_stage_that_reads_it(evaluated: Path, fails: Stage) -> None:
    """A bit flipped with the time stamp kept, a cut and an empty file: one line each, which names file and cure."""
    project = evaluated
    run("compare", "register")
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


def test_models_that_changed_places_are_told(evaluated: Path, fails: Stage) -> None:
    for one, other, spare in [("small", "large", "spare")]:
        (evaluated / "models" / one).rename(evaluated / "models" / spare)
        (evaluated / "models" / other).rename(evaluated / "models" / one)
        (evaluated / "models" / spare).rename(evaluated / "models" / other)
    assert fails("evaluate", "small").startswith("models/small holds the model large, not small: train the model")
    assert fails("compare").startswith("models/small holds the model large, not small: train the model")


def test_settings_that_do_not_fit_the_data_are_told_before_any_training(project: Path, fails: Stage) -> None:
    change(project, "image_size: 8}", "image_size: 64}")
    for stage in (["reference"], ["train", "small"]):
        said = fails(*stage)
        assert "nothing was trained" in said and "evaluation.image_size (64)" in said
    assert not (project / "models").exists() and not (project / "reference").exists()
