"""A project held against other DVC processes, and what a killed one leaves in .dvc/tmp/rwlock."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flows.prepare import _place
from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin
from flows.versioning.repo import LockConflictError, data_held
from genmodel.errors import VersioningError
from genmodel.sizes import Size
from tests.flows.toy_project import environment

ORIGIN = {"source": "digits", "sizes": [16]}
TRAIN = [sys.executable, "-m", "dvc", "repro", "--single-item", "train@vae"]


def test_data_that_a_stage_reads_are_not_touched(toy) -> None:
    """A real `dvc repro` sleeps in a stage that depends on data/; then the data are held, and it finds them busy."""
    versioning.add(toy.root, ORIGIN)
    toy.write("trick-train-vae.py", "import time; open('began', 'w').close(); time.sleep(600)")
    repro = subprocess.Popen(TRAIN, cwd=toy.root, env=environment(), start_new_session=True)
    try:
        deadline = time.monotonic() + 90
        while not (toy.root / "began").exists():
            assert repro.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(LockConflictError, match="another DVC process is at work"), data_held(toy.root):
            pytest.fail("the data were held beside a stage that reads them")
    finally:
        os.killpg(repro.pid, 9)
        repro.wait()
    toy.write("trick-train-vae.py", "")
    with data_held(toy.root):
        toy.write("data/more", "new")
        other = subprocess.run(TRAIN, cwd=toy.root, env=environment(), capture_output=True, text=True, timeout=120)
        assert other.returncode == 255 and "is busy, it is being blocked by" in other.stderr
        versioning.add(toy.root, ORIGIN)  # this process's own calls pass
    assert versioning.matches(toy.root)
    toy.dvc("repro", "--single-item", "train@vae")


DAMAGED = pytest.mark.parametrize("left", ["", '{"write": {"/a": {"pi', "[]"], ids=["empty", "cut", "list"])


@pytest.mark.fault("kill -9 of flow, guard, dvc, schedule")
@DAMAGED
def test_what_a_kill_leaves_of_the_rwlock_holds_nobody_up(toy, left: str) -> None:
    lock = toy.root / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(left)
    assert versioning.changed(toy.root)
    assert not any(json.loads(lock.read_text()).values())


@DAMAGED
def test_a_damaged_rwlock_beside_a_process_that_may_need_it_names_that(toy, left: str) -> None:
    lock = toy.root / ".dvc/tmp/rwlock"
    lock.parent.mkdir(exist_ok=True)
    other = subprocess.Popen([sys.executable, "-c", "input()", "dvc", "repro"], cwd=toy.root, stdin=subprocess.PIPE)
    try:
        time.sleep(1)
        lock.write_text(left)
        told = rf"^\S+/rwlock is damaged \([^\n]+ of process {other.pid} is lost: wait for its end, or end it, and run"
        with pytest.raises(VersioningError, match=told):
            versioning.changed(toy.root)
        assert lock.read_text() == left
        os.utime(lock, (time.time() - 60,) * 2)  # from before that process began
        assert versioning.changed(toy.root) and not any(json.loads(lock.read_text()).values())
        lock.write_text(left)
    finally:
        other.kill()
        other.wait()
    assert versioning.changed(toy.root)


def test_a_number_that_another_process_has_by_now_holds_nothing(toy) -> None:
    versioning.add(toy.root, ORIGIN)
    lock = toy.root / ".dvc/tmp/rwlock"
    entry = {"pid": os.getpid(), "cmd": "dvc repro"}
    lock.write_text(json.dumps({"write": {str(toy.root / "data"): entry}, "read": {}}))
    with pytest.raises(LockConflictError):
        versioning.add(toy.root, ORIGIN)
    os.utime(lock, (1, 1))  # written before this process began
    versioning.add(toy.root, ORIGIN)


def test_without_git_the_fix_that_is_named_works(toy) -> None:
    shutil.rmtree(toy.root / ".git")
    with pytest.raises(VersioningError, match=r"has no .git: run `git init` there or, .*core.no_scm true`$"):
        versioning.graph(toy.root)
    toy.dvc("config", "core.no_scm", "true")
    assert versioning.graph(toy.root)
    toy.dvc("config", "core.no_scm", "false")
    subprocess.run(["git", "init", "--quiet"], cwd=toy.root, check=True)
    assert versioning.graph(toy.root)


@pytest.mark.parametrize("left", ["", "outs:\n- md5: [", "outs", "\0\0"])
def test_a_damaged_data_file_names_its_cure(toy, left: str) -> None:
    (toy.root / "data.dvc").write_text(left)
    with pytest.raises(VersioningError, match=r"data.dvc is damaged: take it back with `git checkout HEAD data.dvc`$"):
        versioning.digest(toy.root)


@pytest.mark.parametrize("text", ["digits", "./digits"])
def test_a_folder_called_digits_is_that_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert _place(tmp_path, "digits") == "digits"
    (tmp_path / "digits").mkdir()
    place = _place(tmp_path, text)
    assert Origin(source=place, sizes=(Size.of(16),)).location(tmp_path) == str(tmp_path / "digits")
