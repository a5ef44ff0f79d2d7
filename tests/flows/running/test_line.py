"""The whole line with a short budget in two fresh clones: once by `dvc repro` alone, once by the Prefect flow."""

import csv
import html
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from genmodel.files import durable
from tests.flows.clones import MODELS, ROOT, Clone, copy_project, git

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

LOAD = """
import mlflow, numpy as np
model = mlflow.pyfunc.load_model("models:/genmodel@champion")
(part,) = model.model_config["space"]["parts"]
codes = np.random.default_rng(0).standard_normal((5, *part["shape"]), dtype=np.float32)
if model.model_config["classes"]:
    codes = np.hstack([codes, np.full((5, 1), 7, np.float32)])
images = model.predict(codes)
assert model.predict({"n": 3, "seed": 4}).shape == (3, *images.shape[1:])
print(images.dtype, images.shape, len(np.unique(images)) > 9)
"""


@pytest.fixture(scope="module")
def clones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, Clone]:
    """The clone that lives by `dvc repro`, and the one that lives by the flow; both have run, side by side."""
    folder = tmp_path_factory.mktemp("line")
    copy_project(folder / "origin")
    by_dvc, by_flow = Clone(folder / "by-dvc"), Clone(folder / "by-flow")
    for clone in (by_dvc, by_flow):
        git("clone", "--quiet", str(folder / "origin"), str(clone.root))
    by_dvc.run("python", "-m", "flows.prepare")
    if not (by_flow.root / "data.dvc").exists():
        (by_flow.root / "data.dvc").write_bytes((by_dvc.root / "data.dvc").read_bytes())
    with ThreadPoolExecutor() as pool:
        for life in [pool.submit(live_by_dvc, by_dvc), pool.submit(live_by_flow, by_flow)]:
            life.result()
    return by_dvc, by_flow


def live_by_dvc(clone: Clone) -> None:
    """The line; the line again; the line with another learning rate of the VAE."""
    clone.run_line("dvc", "repro")
    clone.run_line("dvc", "repro")
    params = clone.root / "params.yaml"
    changed, count = re.subn(r"( learning_rate:) 2\.0e-2", r"\1 1.0e-2", params.read_text())
    assert count == 1, "the VAE's learning rate"
    params.write_text(changed)
    clone.run_line("dvc", "repro")


def live_by_flow(clone: Clone) -> None:
    """The flow, and the flow again."""
    clone.run_line("python", "-m", "flows.retrain")
    clone.first = clone.summary()
    clone.run_line("python", "-m", "flows.retrain")


@pytest.fixture(scope="module")
def by_dvc(clones: tuple[Clone, Clone]) -> Clone:
    return clones[0]


@pytest.fixture(scope="module")
def by_flow(clones: tuple[Clone, Clone]) -> Clone:
    return clones[1]


def test_dvc_repro_and_the_flow_leave_the_same_lock(by_dvc: Clone, by_flow: Clone) -> None:
    lock = by_flow.locks[0]
    assert by_dvc.locks[0] == lock
    assert lock["stages"].keys() == {"code", "reference", "compare", "register"} | {
        f"{stage}@{name}" for stage in ("train", "evaluate") for name in MODELS
    }
    outs = {out["path"] for stage in lock["stages"].values() for out in stage.get("outs", ()) if out["md5"]}
    assert {"models/dcgan", "models/vae", "reference", "ranking.csv"} <= outs


def test_a_clone_makes_the_committed_data_to_the_byte(by_dvc: Clone, by_flow: Clone) -> None:
    made = yaml.safe_load((by_dvc.root / "data.dvc").read_text())
    assert made["outs"][0]["md5"] == yaml.safe_load((by_flow.root / "data.dvc").read_text())["outs"][0]["md5"]
    if (ROOT / "data.dvc").exists():
        assert made == yaml.safe_load((ROOT / "data.dvc").read_text())
        assert git("-C", str(by_dvc.root), "status", "--porcelain", "data.dvc") == ""


def ran(told: str) -> list[str]:
    """The stages that a `dvc repro` ran, in order."""
    return re.findall(r"Running stage '(.+?)'", told)


def test_a_second_repro_runs_nothing(by_dvc: Clone) -> None:
    assert len(ran(by_dvc.told[0])) == 8
    assert ran(by_dvc.told[1]) == ["register"], "which is always asked"
    assert by_dvc.locks[1] == by_dvc.locks[0]


def test_a_change_of_one_model_reruns_only_what_it_concerns(by_dvc: Clone) -> None:
    assert set(ran(by_dvc.told[2])) == {"train@vae", "evaluate@vae", "compare", "register"}
    before, after = (lock["stages"] for lock in by_dvc.locks[1:])
    assert after["train@dcgan"] == before["train@dcgan"]
    assert after["train@vae"]["outs"] != before["train@vae"]["outs"]
    (diff,) = json.loads(by_dvc.run("dvc", "params", "diff", "--json")).values()
    assert diff == {"models.vae.network.learning_rate": {"old": 0.02, "new": 0.01, "diff": -0.01}}
    assert {"vae", "dcgan"} == {run.data.tags["model"] for run in by_dvc.all_runs()}
    assert len(by_dvc.all_runs()) == 3, "a run of its own for the other learning rate"


def test_each_training_is_one_run_with_all_that_belongs_to_it(by_flow: Clone) -> None:
    runs = by_flow.runs()
    assert runs.keys() == MODELS
    client = by_flow.client()
    version = yaml.safe_load((by_flow.root / "data.dvc").read_text())["outs"][0]["md5"]
    for name, run in runs.items():
        assert run.info.status == "FINISHED"
        assert run.data.params["training.images"] == "6400"
        assert run.data.params["network.latent_dim"]
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "images_seen")]
        assert steps == [1280, 2560, 3840, 5120, 6400]
        losses = [key for key in run.data.metrics if key.startswith("loss/")]
        assert losses and all(len(client.get_metric_history(run.info.run_id, key)) == 5 for key in losses)
        assert run.data.metrics["throughput/images_per_second"] > 0
        late = f"the end of the training of {name} is not in MLflow" in by_flow.told[0]
        assert late or any(key.startswith("system/") for key in run.data.metrics), "readings of the machine"
        assert {"eval/fd_classifier", "eval/kd_classifier", "eval_cost/seconds"} <= run.data.metrics.keys()
        assert ("eval/bits_per_dim" in run.data.metrics) == (name == "vae")
        images = [file.path for file in client.list_artifacts(run.info.run_id, "images")]
        grids = {int(match[1]) for path in images if (match := re.search(r"samples\+step\+(\d+)\+.*png$", path))}
        assert {0, 6400} <= grids and len(grids) >= 4
        tables = {file.path for file in client.list_artifacts(run.info.run_id, "leaderboard")}
        assert tables == {f"leaderboard/leaderboard.{kind}" for kind in ("csv", "md", "html")}
        (used,) = run.inputs.dataset_inputs
        assert (used.dataset.digest, used.dataset.name) == (version, "digits")
        assert run.data.tags["mlflow.source.git.commit"] == git("-C", str(by_flow.root), "rev-parse", "HEAD").strip()
        assert run.data.tags["genmodel.outcome"]


def test_the_flow_again_says_nothing_changed_and_makes_no_run(by_flow: Clone) -> None:
    assert "nothing changed since the last run" not in by_flow.told[0]
    assert "nothing changed since the last run" in by_flow.told[1]
    assert by_flow.summary() == by_flow.first
    assert by_flow.locks[1] == by_flow.locks[0]


def test_what_the_flow_says_at_its_end(by_flow: Clone) -> None:
    told = by_flow.told[0]
    end = told[told.index("Leaderboard") :]
    for name in MODELS:
        assert f"models/{name}/samples/0000006400.png" in end
        assert (by_flow.root / f"models/{name}/samples/0000006400.png").exists()
    assert "promote" in end
    assert "make ui" in end
    assert "Traceback" not in told


def test_anyones_mlflow_loads_the_champion_in_a_fresh_process(by_flow: Clone) -> None:
    told = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=by_flow.root.parent,
        env={
            "PATH": os.environ["PATH"],
            "MLFLOW_TRACKING_URI": f"sqlite:///{by_flow.root / 'mlflow.db'}",
            "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        },
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "uint8 (5, 16, 16, 1) True", told.stderr
    client = by_flow.client()
    champion = client.get_model_version_by_alias("genmodel", "champion")
    (weights,) = (by_flow.root / "mlartifacts").rglob("weights.safetensors")
    assert durable.digest_file(weights) == champion.tags["genmodel.weights"]
    assert champion.run_id in {run.info.run_id for run in by_flow.runs().values()}


def test_the_leaderboard_tells_figures_intervals_costs_and_versions(by_flow: Clone) -> None:
    with (by_flow.root / "leaderboard.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    block = json.loads((by_flow.root / "reports/vae.json").read_text())["conditions"]["block"]
    for name in MODELS:
        training = json.loads((by_flow.root / f"models/{name}/config.json").read_text())["fingerprint"]
        cost = json.loads((by_flow.root / f"runs/{training[:16]}/cost.json").read_text())
        assert float(rows[name]["seconds"]) == cost["seconds"] > 0
        assert (rows[name]["device"], float(rows[name]["gpu_hours"]), rows[name]["kwh"]) == ("cpu", 0.0, "n/a")
        assert int(rows[name]["bytes"]) == (by_flow.root / f"models/{name}/weights.safetensors").stat().st_size
        assert float(rows[name]["fd_classifier_low"]) <= float(rows[name]["fd_classifier"])
        assert rows[name]["data"] == block[:8]
    page = (by_flow.root / "leaderboard.html").read_text()
    assert page.count('class="replay"') == len(MODELS) and "against seconds of training" in page
    commit = git("-C", str(by_flow.root), "rev-parse", "HEAD").strip()
    assert f"Made from commit {commit[:12]}" in page
    assert "seconds" not in (by_flow.root / "ranking.csv").read_text().splitlines()[0], "what DVC tracks has no times"


def test_dvc_s_own_views_mean_something(by_flow: Clone) -> None:
    metrics = by_flow.run("dvc", "metrics", "show", "--md")
    assert all(name in metrics for name in ("fd_classifier", "kd_classifier", "bits_per_dim", "dcgan", "vae"))
    assert "sha256" not in metrics and "fingerprint" not in metrics, "figures, not identities"
    by_flow.run("dvc", "plots", "show")
    page = html.unescape((by_flow.root / "dvc_plots/index.html").read_text())
    assert "<script" not in page and "http" not in page, "it draws without a network"
    shown = {path.name: path for path in (by_flow.root / "dvc_plots/static").iterdir()}
    kinds = [f"{name}-{kind}" for name in MODELS for kind in ("losses.svg", "timeline.png")]
    assert set(shown) == {f"workspace_plots_{name}" for name in ("ranking.svg", *kinds)}
    assert "fd_classifier" in shown["workspace_plots_ranking.svg"].read_text()
    assert ">negative_elbo<" in shown["workspace_plots_vae-losses.svg"].read_text()


def test_the_page_tells_the_decision_of_this_run(by_flow: Clone) -> None:
    page = (by_flow.root / "leaderboard.html").read_text()
    decision = json.loads((by_flow.root / "decision.json").read_text())
    assert "Not decided yet" not in page and html.escape(decision["reasons"][0], quote=False)[:40] in page
    champion = json.loads((by_flow.root / "champion.json").read_text())["champion"]
    assert (f"version {champion['version']}" if champion else "none yet") in page
    assert 'alt="Real images"' in page and all(f'alt="Nearest neighbours of {name}"' in page for name in MODELS)


def test_no_flipped_bit_changes_anything_in_silence(by_flow: Clone) -> None:
    told = by_flow.run("python", "-m", "benchmarks.flips", ".", "-n", "48")
    assert [line for line in told.splitlines() if line.startswith("| the champion's package |")], told
