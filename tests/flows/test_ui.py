import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlflow import MlflowClient
from PIL import Image

from flows import ui
from flows.settings import Settings
from flows.tracking import Tracker
from flows.tracking.trainings import Row, Training
from genmodel.evaluation.report import Timing
from tests.reports import Numbers, made_report


def saved(settings: Settings) -> dict[str, Any]:
    """What MLflow's UI finds under the key in the link, as it reads it."""
    client = MlflowClient(settings.tracking_uri, settings.tracking_uri)
    experiment = client.get_experiment_by_name(settings.experiment)
    assert experiment is not None
    envelope = json.loads(experiment.tags["mlflow.sharedViewState.genmodel"])
    assert isinstance(envelope["name"], str) and isinstance(envelope["createdAt"], int)
    state: dict[str, Any] = json.loads(envelope["state"])
    return state


def test_the_link_opens_a_view_with_the_figures_and_the_last_samples(settings: Settings, training: Training) -> None:
    tracker = Tracker(settings)
    sent = tracker.begin(training, 1000)
    tracker.send(sent, [Row(n, 10**12 + n, {"loss/total": 1.0, "images_seen": n}) for n in (0, 640)], {})
    figures: Numbers = {"fd_classifier": 12.5, "density": 1.5, "bits_per_dim": None}
    tracker.log_evaluation(made_report("vae", figures, fingerprint=training.fingerprint), Timing(seconds=3.0))
    for _ in range(2):  # saved anew at each start, for the runs of the day
        place = ui.save_view(tracker)
    experiment = MlflowClient(settings.tracking_uri).get_experiment_by_name(settings.experiment)
    assert experiment is not None
    mode = "workflowType=machine_learning&compareRunsMode=CHART&viewStateShareKey=genmodel"
    assert place == f"experiments/{experiment.experiment_id}/runs?{mode}"
    state = saved(settings)
    columns = ["tags.`genmodel.outcome`", "metrics.`eval/fd_classifier`"]
    assert state["selectedColumns"] == [*columns, "tags.`genmodel.data`"]
    assert state["columnOrder"][:4] == ["attributes.`Run Name`", *columns, "runDateAndNestInfo"], "these come first"
    assert state["columnWidths"][columns[0]] >= 8 * len("genmodel.outcome"), "its heading is not cut"
    assert (state["orderByKey"], state["orderByAsc"]) == (columns[1], True), "the best is the first"
    grid, *bars = state["compareRunCharts"]
    shown = [(bar["metricKey"], bar["dataAccessKey"], bar["metricSectionId"]) for bar in bars if not bar["deleted"]]
    assert shown == [
        ("↓ fd_classifier: lower is better", "eval/fd_classifier", "figures"),
        ("→1 density: nearer 1 is better", "eval/density", "more figures"),
    ]
    own = [bar["metricKey"] for bar in bars if bar["deleted"]]
    assert own == ["eval/fd_classifier", "eval/density"], "which MLflow would add, without a direction"
    assert (grid["imageKeys"], grid["step"], grid["showRunParams"]) == (["latest"], 0, False)
    assert grid["metricSectionId"] in {section["uuid"] for section in state["compareRunSections"]}


def test_an_experiment_without_runs_has_a_view_too(settings: Settings) -> None:
    ui.save_view(Tracker(settings))
    assert saved(settings)["compareRunCharts"]


def test_the_view_shows_the_last_samples_of_runs_of_any_length(
    settings: Settings, training: Training, tmp_path: Path
) -> None:
    tracker, client = Tracker(settings), MlflowClient(settings.tracking_uri, settings.tracking_uri)
    for fingerprint, ends in {"aa": [(0, 640)], "bb": [(0, 320), (6400,)]}.items():
        sent = tracker.begin(replace(training, fingerprint=fingerprint * 32), 1000)
        for arrived in ends:
            grids = {n: tmp_path / f"{fingerprint}-{n}.png" for n in arrived}
            for place, path in enumerate(grids.values()):
                Image.new("L", (8, 8), len(arrived) + place).save(path)
            sent = tracker.send(sent, [], grids)
        last = client.download_artifacts(sent.run_id, "images", str(tmp_path))
        (shown,) = Path(last).glob("latest+step+0+*.png")
        assert shown.read_bytes() == path.read_bytes()
        shutil.rmtree(last)
    ui.save_view(tracker)
    grid = saved(settings)["compareRunCharts"][0]
    assert (grid["imageKeys"], grid["step"]) == (["latest"], 0)


def test_the_view_is_fitted_to_the_newest_runs_however_many_there_are(
    settings: Settings, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "_NEWEST", 2)
    tracker = Tracker(settings)
    for started, (fingerprint, figure) in enumerate(
        {"aa": "copied", "bb": "precision", "cc": "recall"}.items(), start=1
    ):
        tracker.begin(replace(training, fingerprint=fingerprint * 32), started * 1000)
        report = made_report("vae", {"fd_classifier": 1.0, figure: 1.0}, fingerprint=fingerprint * 32)
        tracker.log_evaluation(report, Timing(seconds=3.0))
    ui.save_view(tracker)
    columns = [name for name in saved(settings)["selectedColumns"] if name.startswith("metrics")]
    assert columns == [f"metrics.`eval/{name}`" for name in ("fd_classifier", "precision", "recall")]


def test_the_first_view_holds_what_was_judged_like_the_last_one_and_nothing_that_failed(
    settings: Settings, training: Training
) -> None:
    """What is not judged yet, as it still trains, is in it, too."""
    tracker, client = Tracker(settings), MlflowClient(settings.tracking_uri, settings.tracking_uri)
    runs = {name: tracker.begin(replace(training, fingerprint=name * 32), 1000).run_id for name in ("aa", "bb", "cc")}
    runs |= {name: tracker.begin(replace(training, fingerprint=name * 32), 2000).run_id for name in ("dd", "ee")}

    def judge(name: str, seed: int) -> None:
        report = made_report("vae", {"fd_classifier": 1.0}, conditions={"seed": seed}, fingerprint=name * 32)
        tracker.log_evaluation(report, Timing(seconds=3.0))
        client.set_tag(runs[name], "genmodel.judged", f"2026-01-0{seed}")

    def shown() -> set[str]:
        ui.save_view(tracker)
        found = client.search_runs([client.get_run(runs["aa"]).info.experiment_id], saved(settings)["searchFilter"])
        return {name for name in runs if runs[name] in {run.info.run_id for run in found}}

    assert shown() == {"aa", "bb", "cc", "dd", "ee"}, "nothing was judged"
    tracker.end(runs["ee"], "FAILED", "failed")
    judge("bb", 2)
    judge("cc", 1)
    assert shown() == {"aa", "bb", "dd"}, "though cc began no earlier than bb"
    judge("cc", 2)
    judge("dd", 1)
    assert shown() == {"aa", "bb", "cc"}
