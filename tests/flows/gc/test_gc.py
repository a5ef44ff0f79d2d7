"""What `flows.gc` keeps and what it frees, with real DVC and MLflow; a kill leaves nothing broken."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from flows.costs import ledger
from flows.gc.__main__ import main
from flows.registry.champion import Promotions
from flows.registry.promotions import Ledger
from flows.registry.registry import CHAMPION, PREVIOUS, Registry
from flows.versioning import dvc as versioning
from flows.versioning import locks
from genmodel.errors import BusyError
from genmodel.files import durable
from tests.flows.gc.nights import Nights, ago
from tests.flows.registry.painted import finished

ROOT = Path(__file__).parents[3]


def objects(root: Path) -> set[str]:
    cache = root / ".dvc/cache/files/md5"
    return {path.parent.name + path.name for path in cache.glob("*/*")}


def test_what_nothing_needs_goes_and_the_rest_stays(nights: Nights) -> None:
    prints = [nights.night(number) for number in range(4)]
    before = objects(nights.root)
    planned = nights.clean(last=1, dry=True)
    assert objects(nights.root) == before and len(nights.runs()) == 4 and len(nights.folders()) == 4, "a dry run"
    rows = nights.clean(last=1)
    counts = {what: (row.kept, row.freed) for what, row in rows.items()}
    assert counts == {what: (row.kept, row.freed) for what, row in planned.items()}, "as it was foretold"
    assert nights.versions() == {"3", "4"}, "previous and champion"
    assert nights.runs() == set(prints[2:]) and nights.folders() == {each[:16] for each in prints[2:]}
    assert rows["versions in MLflow"].why == "1 champion; 1 previous"
    assert rows["runs in Prefect"].freed == 3
    left = sorted(path.name for path in (nights.root / "mlartifacts").iterdir())
    assert len(left) == 3 and len(list((nights.root / "mlartifacts/models").iterdir())) == 2
    assert len(list(nights.root.glob(".dvc/cache/runs/*/*/*"))) == 2 and len(objects(nights.root)) < len(before)
    again = nights.clean(last=1)
    assert all(row.freed == 0 for row in again.values()), again


def test_the_next_retraining_says_that_nothing_changed(nights: Nights) -> None:
    for number in range(3):
        nights.night(number)
    nights.clean(last=1)
    assert versioning.changed(nights.root) == set() and versioning.matches(nights.root)
    shutil.rmtree(nights.root / "models")
    shutil.rmtree(nights.root / "data")
    assert versioning.restore(nights.root), "the data come from the cache"
    subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet"], cwd=nights.root, check=True)
    assert (nights.root / "models/toy/weights").read_text() == "night: 2\n"


def test_a_persons_word_keeps_a_version(nights: Nights) -> None:
    for number in range(6):
        nights.night(number)
    with nights.tracker.talking() as (client, _):
        client.set_model_version_tag("genmodel", "1", "release", "spring")
        client.set_model_version_tag("genmodel", "2", "genmodel.rolled_back", "2026-01-01, it paints noise")
        client.set_model_version_tag("genmodel", "3", "genmodel.decision", "pending")
    rows = nights.clean(last=1)
    assert nights.versions() == {"1", "2", "3", "5", "6"}
    for why in ("tagged release", "rolled back: it must not be promoted again", "pending"):
        assert why in rows["versions in MLflow"].why
    assert len(nights.folders()) == 5, "and their trainings"


def test_what_a_branch_a_tag_or_a_remote_branch_names_stays(nights: Nights) -> None:
    nights.commit()
    kept = []
    for number, place in enumerate(("a branch", "a tag", "a remote's branch", "nowhere", "nowhere", "nowhere")):
        fingerprint = nights.night(number)
        if place != "nowhere":
            nights.git("checkout", "--quiet", "-b", f"b{number}")
            nights.commit()
            kept.append(fingerprint)
        if place == "a tag":
            nights.git("tag", "-a", "v1", "-m", "v1")
        if place == "a remote's branch":
            nights.git("update-ref", f"refs/remotes/origin/b{number}", "HEAD")
        if place != "nowhere":
            nights.git("checkout", "--quiet", "--detach")
        if place in ("a tag", "a remote's branch"):
            nights.git("branch", "--quiet", "-D", f"b{number}")
    nights.git("update-ref", "HEAD", "b0")  # else HEAD would name them, too
    kept.append(fingerprint)
    rows = nights.clean(last=1)
    assert nights.folders() == {each[:16] for each in [*kept, *latest(nights)]}
    assert "3 in the dvc.lock of a branch or a tag" in rows["trainings in runs/"].why
    for name in ("b0", "v1", "refs/remotes/origin/b2"):
        nights.git("checkout", "--quiet", "--force", name)
        subprocess.run([sys.executable, "-m", "dvc", "checkout", "--quiet"], cwd=nights.root, check=True)
        weights = (nights.root / "models/toy/weights").read_text()
        assert weights == (nights.root / "params.yaml").read_text(), name


def latest(nights: Nights) -> set[str]:
    """The champion's and the previous one's."""
    with nights.tracker.talking() as (client, _):
        found = [client.get_model_version_by_alias("genmodel", alias) for alias in (CHAMPION, PREVIOUS)]
    return {version.tags["genmodel.fingerprint"] for version in found}


def test_a_remote_is_cleaned_when_asked_and_a_shared_cache_is_not(nights: Nights, capsys: Any) -> None:
    config = nights.root / ".dvc/config"
    core = config.read_text().replace("[core]\n", "[core]\n    remote = store\n")
    config.write_text(f"{core}['remote \"store\"']\n    url = ../remote\n")
    for number in range(4):
        nights.night(number)
        subprocess.run([sys.executable, "-m", "dvc", "push", "--quiet"], cwd=nights.root, check=True)
    count = len(list((nights.root / "remote/files/md5").glob("*/*")))
    assert "DVC's remote store" not in nights.clean(last=1)
    assert len(list((nights.root / "remote/files/md5").glob("*/*"))) == count
    row = nights.clean(last=1, remote="")["DVC's remote store"]
    assert row.freed > 0 and row.kept + row.freed == count
    assert len(list((nights.root / "remote/files/md5").glob("*/*"))) == row.kept
    shutil.rmtree(nights.root / ".dvc/cache")
    subprocess.run([sys.executable, "-m", "dvc", "pull", "--quiet"], cwd=nights.root, check=True)
    with pytest.raises(SystemExit, match="2"):
        main(["--remote", "nowhere"])
    assert "DVC has no remote nowhere" in capsys.readouterr().err

    shutil.move(nights.root / ".dvc/cache", nights.root.parent / "shared")
    config.write_text(f"{config.read_text()}[cache]\n    dir = ../../shared\n")
    nights.night(9)
    rows = nights.clean(last=1)
    assert "`dvc gc --projects`" in rows["DVC's cache"].why and rows["DVC's cache"].freed == 0


def test_an_unfinished_training_and_one_at_work_stay(nights: Nights) -> None:
    prints = [nights.night(number, promoted=False) for number in range(5)]
    for number in (1, 2):
        (nights.root / "runs" / prints[number][:16] / "cost.json").unlink()
    os.utime(nights.root / "runs" / prints[1][:16] / "checkpoints", (1, 1))  # an older one of the same model
    held = nights.root / "runs" / f"{prints[0][:16]}.lock"
    with durable.sole(held, "busy"):
        why = nights.clean(last=1)["trainings in runs/"].why
    assert nights.folders() == {prints[number][:16] for number in (0, 2, 4)}
    assert "1 unfinished: it would go on" in why and "1 at work" in why


def test_nothing_is_removed_beside_a_line_that_runs(nights: Nights, capsys: pytest.CaptureFixture[str]) -> None:
    nights.night(0)
    with locks.project(nights.root):
        with pytest.raises(SystemExit, match="75"):
            main([])
        told = capsys.readouterr().err
        assert told.startswith(f"error: process {os.getpid()} (python") and "is at work in" in told
        with pytest.raises(BusyError), locks.project(nights.root, wait=False):
            raise AssertionError
    stage = subprocess.Popen(["sleep", "60"])
    try:
        lock = nights.root / ".dvc/tmp/rwlock"
        lock.write_text(f'{{"read": {{"{nights.root}/data": [{{"pid": {stage.pid}, "cmd": "dvc repro"}}]}}}}')
        with pytest.raises(SystemExit, match="2"):
            main([])
        assert "another DVC process is at work" in capsys.readouterr().err
    finally:
        stage.kill()
        stage.wait()
    assert main(["--keep", "2"]) == 0
    assert "runs in MLflow" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["--keep", "-1"])


def test_old_costs_are_forgotten(nights: Nights) -> None:
    for days in (500.0, 3.0):
        cost = ledger.Cost(seconds=days)
        ledger.keep(nights.root, ledger.Line(time=ago(days), run="", stage="train", cost=cost))
    nights.clean()
    assert [line.cost.seconds for line in ledger.read(nights.root)] == [3.0]


@pytest.mark.fault("kill -9 of gc")
def test_a_kill_on_the_way_leaves_nothing_broken(nights: Nights) -> None:
    """In a process of its own, whose children are killed: this one may have threads, which do not survive a fork."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "tests/flows/gc/nights.py"), "1", "12", "25"]
    done = subprocess.run(command, cwd=nights.root, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [word for word in done.stdout.splitlines() if word.isdigit()] == ["1", "12", "25"]


def test_a_rollback_still_works(nights: Nights, training: Any, tmp_path: Path) -> None:
    """With real packages: the previous champion is fetched, loaded and draws."""
    registry = Registry(nights.tracker)
    for number in range(3):
        other = replace(training, fingerprint=f"{number:064}")
        nights.tracker.end(nights.tracker.begin(other, 1000 * number + 1000).run_id, "FINISHED", "trained")
        folder, model, card = finished(other, tmp_path / f"model-{number}", number)
        registry.register(folder, model, card)
    registry.set_alias(PREVIOUS, "2")
    registry.set_alias(CHAMPION, "3")
    nights.clean(last=1)
    assert nights.versions() == {"2", "3"}
    now, gone = Promotions(registry, Ledger(nights.root)).roll_back("it paints noise")
    assert (now.number, gone and gone.number) == ("2", "3")
    nights.clean(last=1)
    assert nights.versions() == {"2", "3"}
