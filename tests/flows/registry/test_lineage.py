"""From a version back to its data and weights: the commands that lineage prints, typed as they are."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from flows.registry import __main__ as command
from flows.versioning import dvc as versioning
from genmodel.data.block import Block
from genmodel.files import durable

PARAMS = """
models:
  small:
    {family: vae, image_size: 8, training: {images: 8000},
     network: {latent_dim: 4, base_channels: 4, learning_rate: 0.01}}
evaluation: {samples: 16, extractor: pixels, image_size: 8}
gate: {min_precision: 0, min_recall: 0, max_copied: 1}
"""

DVC_YAML = """
stages:
  reference: {cmd: python -m flows.stages reference, deps: [data], outs: [reference]}
  train:
    foreach: ${models}
    do:
      cmd: python -m flows.stages train ${key}
      deps: [data]
      params: ["models.${key}"]
      outs: ["models/${key}"]
  evaluate:
    foreach: ${models}
    do:
      cmd: python -m flows.stages evaluate ${key}
      deps: [data, reference, "models/${key}"]
      outs: ["reports/${key}.json"]
      metrics: ["figures/${key}.json"]
  compare:
    cmd: python -m flows.stages compare
    deps: [reports]
    outs: [ranking.csv]
"""
REAL = Path(__file__).parents[3] / "dvc.yaml"  # its stage `register`, which DVC must not answer for

IGNORED = (
    "/data /models /reference /reports /figures /runs /ml* /ranking.csv /leaderboard.* /decision.* /champion.*"
    " /promotions.jsonl"
)
OF_ANOTHER_LINE = ("PREFECT_", "MLFLOW_", "DVC_", "GENMODEL_")

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def shell(folder: Path, *lines: str) -> str:
    """What bash says to the lines, stopping at the first that fails; none may."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(OF_ANOTHER_LINE)}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines)],
        cwd=folder,
        env={**clean, "PATH": path, "DVC_NO_ANALYTICS": "1", "SHELL": "/bin/sh"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def project(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone of a small project, where the line has run once by `dvc repro`; dvc.lock is not yet committed."""
    folder = tmp_path_factory.mktemp("lineage")
    root = folder / "project"
    shell(folder, "git init --quiet origin", "git clone --quiet origin project 2>/dev/null")
    (root / ".dvc").mkdir()
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n")
    (root / ".dvc/.gitignore").write_text("/config.local\n/tmp\n/cache\n")
    stages = yaml.safe_load(DVC_YAML)["stages"]
    stages["register"] = yaml.safe_load(REAL.read_text())["stages"]["register"]
    stages["register"]["deps"] = [dep for dep in stages["register"]["deps"] if not dep.startswith("genmodel/")]
    graph = yaml.safe_dump({"stages": stages}, sort_keys=False)
    for name, text in {"params.yaml": PARAMS, "dvc.yaml": graph, ".gitignore": IGNORED.replace(" ", "\n")}.items():
        (root / name).write_text(text)
    shutil.copytree(block.path, root / "data")
    versioning.add(root, {"source": "raw", "sizes": [8], "licence": "CC0-1.0"})
    shell(
        root,
        "git config user.name x",
        "git config user.email x@example.org",
        "git add --all",
        "git commit --quiet -m 'settings and data'",
        "dvc repro --quiet",
    )
    shutil.copytree(root, folder / "as it was", symlinks=True)
    return root


def lineage(root: Path, version: str = "champion") -> tuple[dict[str, str], list[str]]:
    """The links of a version by their names, and the commands."""
    lines = shell(root, f"python -m flows.registry lineage {version}").splitlines()
    end = lines.index("")
    return {name: rest for name, _, rest in (line.partition(" ") for line in lines[:end])}, lines[end + 1 :]


def check_restored(root: Path, original: Path) -> None:
    name = "models/small/weights.safetensors"
    assert durable.digest_file(root / name) == durable.digest_file(original / name)
    assert versioning.digest(root) == versioning.digest(original) and versioning.matches(root)
    assert Block.open(root / "data").digest == Block.open(original / "data").digest


def test_what_else_the_command_line_says(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = shell(project, "python -m flows.registry history")
    assert all(word in told for word in ("Champions", "promote", "small", "There was no champion: small has fd_pixels"))
    (event,) = [line for line in (project / "promotions.jsonl").read_text().splitlines() if '"decided"' in line]
    assert '"loads"' in event, "it was tried before the alias moved"
    assert "It loads from the registry and generates 8 px images." in (project / "decision.md").read_text()
    card = next((project / "mlartifacts").rglob("card.md")).read_text()
    assert "- licence: CC0-1.0" in card and "- seconds: " in card and "data:image/png;base64," in card
    monkeypatch.chdir(project)
    for words, why in (
        (["lineage", "7"], "genmodel has no version 7: give a number, or an alias as champion"),
        (["rollback"], "there is no previous champion to put back: nothing was changed"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command.main(words)
        assert capsys.readouterr().err.splitlines()[-1] == f"error: {why}"  # MLflow may have told of its tables before


def test_the_commands_of_lineage_restore_the_data_and_the_weights(project: Path) -> None:
    trained_at = shell(project, "git rev-parse HEAD").strip()
    links, commands = lineage(project)
    assert links["commit"].strip() == trained_at
    assert "kept with the version" in links["dvc.lock"] and commands[-1] == "dvc checkout data.dvc train@small"
    shell(project, *commands)
    restored = project.parent / "project-version-1"
    check_restored(restored, project)
    shell(project, f"git worktree remove --force {restored}")

    shell(project, "git add dvc.lock", "git commit --quiet -m 'the line has run'")
    locked_at = shell(project, "git rev-parse HEAD").strip()
    other = (project / "params.yaml").read_text().replace("base_channels: 4", "base_channels: 8")
    (project / "params.yaml").write_text(other)
    shell(project, "dvc repro --quiet train@small", "git commit --quiet --all -m 'another model'")
    links, commands = lineage(project)
    assert links["dvc.lock"].strip() == locked_at
    lock = yaml.safe_load(shell(project, f"git show {locked_at}:dvc.lock"))["stages"]
    assert links["model"].strip() == lock["train@small"]["outs"][0]["md5"]
    assert links["data"].strip() == versioning.digest(project)
    assert commands[-1] == "dvc checkout data.dvc train@small"
    shell(project, *commands)
    shell(project, f"git checkout --quiet {locked_at}", "dvc checkout --quiet")
    check_restored(restored, project)


def test_another_clone_pulls_what_its_cache_lacks(project: Path, tmp_path: Path) -> None:
    remote = tmp_path / "remote"
    shell(
        project,
        f"dvc remote add --quiet --default stored {remote}",
        "git add --all",
        "git commit --quiet -m 'the line has run, with a remote'",
        "dvc push --quiet --all-commits",
    )
    shell(tmp_path, f"git clone --quiet {project} elsewhere")
    for name in ("mlflow.db", "mlartifacts"):
        (tmp_path / "elsewhere" / name).symlink_to(project / name)  # the same registry
    links, commands = lineage(tmp_path / "elsewhere")
    assert commands[-1] == "dvc pull data.dvc train@small"
    shell(tmp_path / "elsewhere", *commands)
    check_restored(tmp_path / "elsewhere-version-1", project)
    assert links["version"].strip().startswith("1, small, weights ")


@pytest.fixture
def copy(project: Path, tmp_path: Path) -> Path:
    """The project where the line has run once, ours to spoil; nothing of that run is committed."""
    return Path(shutil.copytree(project.parent / "as it was", tmp_path / "copy", symlinks=True))


def said(root: Path) -> str:
    return str(json.loads((root / "champion.json").read_text())["text"])


def change(root: Path, old: str, new: str) -> None:
    text = (root / "params.yaml").read_text()
    assert old in text
    (root / "params.yaml").write_text(text.replace(old, new))


def test_the_registry_of_now_is_asked_whatever_dvc_has_cached(copy: Path, tmp_path: Path) -> None:
    """Settings reverted, a branch switched, an experiment in a copy, another or a lost MLflow, a new machine."""
    shell(copy, "git add --all", "git commit --quiet --message 'the line has run' || true")
    unchanged = "unchanged: version 1, small, "
    for go, back in (
        ("true", "git checkout --quiet -- params.yaml"),
        (
            "git checkout --quiet -b other",
            "git commit --quiet --all -m other && git checkout --quiet - && dvc checkout",
        ),
    ):
        shell(copy, go)
        change(copy, "max_copied: 1", "max_copied: 0.9")
        shell(copy, "dvc repro --quiet")
        assert said(copy).startswith(unchanged)
        shell(copy, back, "rm champion.json decision.json", "dvc repro --quiet")
        assert said(copy).startswith(unchanged) and "no champion" not in said(copy)

    ledger, shown = (copy / "promotions.jsonl").read_bytes(), said(copy)
    shell(copy, "git add --all", "git commit --quiet --message 'as it is' || true")
    shell(copy, "dvc exp run --temp --quiet -S gate.max_copied=0.8 -S models.small.network.latent_dim=3")
    assert (copy / "promotions.jsonl").read_bytes() == ledger and said(copy) == shown
    assert "version 2" not in shell(copy, "python -m flows.registry verify 2 2>&1 || true").replace("no version 2", "")

    shell(copy, "MLFLOW_TRACKING_URI=sqlite:///other.db dvc repro --quiet")
    assert "version 1, small" in said(copy) and "is the new champion" in said(copy)
    shell(copy, "dvc repro --quiet")
    assert said(copy).startswith(unchanged), "that of this registry"
    (copy / "mlflow.db").unlink()
    shell(copy, "dvc repro --quiet")
    assert "version 1, small" in said(copy) and "is the new champion" in said(copy)

    shell(copy, f"dvc remote add --quiet --default stored {tmp_path}/remote", "dvc push --quiet")
    shell(copy, "git add --all", "git commit --quiet --message 'with a remote'")
    shell(tmp_path, "git clone --quiet copy machine", "cd machine", "dvc pull --quiet", "dvc repro --quiet")
    assert "is the new champion" in said(tmp_path / "machine")
    shell(tmp_path / "machine", "python -m flows.registry verify champion")


def test_the_commands_of_lineage_restore_what_nights_without_commits_have_made(
    copy: Path, tmp_path: Path, raw: Path
) -> None:
    """Version 1, then an update of the data and another recipe, version 2; git knows of neither."""
    before = versioning.digest(copy)
    shutil.copytree(raw / "circle", tmp_path / "new" / "circle")
    for number, path in enumerate(sorted((tmp_path / "new" / "circle").iterdir())):
        with Image.open(path) as image:
            image.rotate(90 * (number % 3 + 1)).save(path)
    shell(copy, "python -m flows.prepare --update --source ../new --workers 1")
    after = versioning.digest(copy)
    assert after != before
    change(copy, "base_channels: 4", "base_channels: 6")
    shell(copy, "dvc repro --quiet")
    for number, data, channels in (("1", before, 4), ("2", after, 6)):
        links, commands = lineage(copy, number)
        shell(copy, *commands)
        restored = tmp_path / f"copy-version-{number}"
        assert versioning.digest(restored) == data and versioning.matches(restored)
        weights = durable.digest_file(restored / "models/small/weights.safetensors")
        assert links["version"].strip() == f"{number}, small, weights {weights[:16]}"
        assert f"base_channels: {channels}" in (restored / "params.yaml").read_text()


GC = """
from mlflow import MlflowClient
client = MlflowClient("sqlite:///mlflow.db")
(run,) = client.search_runs([client.get_experiment_by_name("genmodel").experiment_id])
client.delete_run(run.info.run_id)
print(run.info.run_id)
"""


def test_lineage_needs_no_run(copy: Path) -> None:
    links, commands = lineage(copy)
    run_id = shell(copy, f"python -c '{GC}'").splitlines()[-1]
    shell(copy, f"MLFLOW_TRACKING_URI=sqlite:///mlflow.db mlflow gc --run-ids {run_id}")
    assert lineage(copy) == (links, commands)
