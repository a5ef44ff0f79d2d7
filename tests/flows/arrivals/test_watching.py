"""New images become data by themselves: looked at first by a scheduled run, and by the watcher between them."""

import logging
import os
import shutil
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from flows.arrivals import sources, watching
from flows.prepare import ensure
from flows.settings import Settings
from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin
from genmodel.data.block import Block
from genmodel.errors import VersioningError
from genmodel.sizes import Size
from tests.flows.toy_project import Toy

ONE = "stages:\n  train:\n    cmd: echo trained >> ran.txt && echo model,fd_toy > ranking.csv\n    deps: [data]\n"


def make(root: Path, source: str) -> str:
    """data/ of a source, versioned as `flows.prepare` leaves it; its digest."""
    origin = Origin(source=source, sizes=(Size.of(8),))
    origin.make(root, 1)
    digest = versioning.add(root, origin.as_dict())
    sources.keep(root, sources.states(root, origin.steps))
    return digest


def add_photos(folder: Path, count: int, brightness: int = 9) -> None:
    for number in range(count):
        Image.new("RGB", (9, 9), (number, brightness, 77)).save(folder / f"new-{brightness}-{number}.png")


@pytest.fixture
def photos(empty_project: Toy, raw: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A project of one stage, whose data come from the folder ../raw."""
    empty_project.write(".gitignore", "/data\n/runs\n")
    make(empty_project.root, "../raw")
    monkeypatch.chdir(empty_project.root)
    monkeypatch.setenv("SHELL", "/bin/sh")
    monkeypatch.setenv("GENMODEL_QUIET", "0.05")
    return empty_project


@pytest.fixture
def run(prefect_server: None, caplog: pytest.LogCaptureFixture) -> Callable[..., str]:
    """run(flow) -> what its run says; it must not fail."""

    def go(flow: Any, **parameters: Any) -> str:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            state = flow(**parameters, return_state=True)
        assert state.is_completed(), state
        return caplog.text

    return go


def test_photos_that_are_added_to_the_source_are_in_the_next_run(photos, raw: Path, run, monkeypatch) -> None:
    from flows.retrain import retrain

    photos.write("dvc.yaml", ONE)
    assert "looked at ../raw (60 files): unchanged since it was read" in run(retrain)
    assert photos.ran() == ["trained"]
    add_photos(raw / "circle", 5)
    monkeypatch.setenv("GENMODEL_LOOK", "0")
    assert "looked at" not in run(retrain) and photos.ran() == []
    monkeypatch.delenv("GENMODEL_LOOK")
    told = run(retrain)
    assert "looked at ../raw (65 files): changed since it was read" in told
    assert "5 new images, 0 rejected, 60 already in the block" in told
    assert photos.ran() == ["trained"] and len(Block.open(photos.root / "data")) == 65
    assert [step.source for step in Origin.of_data(photos.root).steps] == ["../raw", "../raw"]
    told = run(retrain)
    assert "(65 files): unchanged since it was read" in told and "nothing changed since the last run" in told
    assert "nothing new: no retraining is started" in run(watching.watch), "a retraining leads to no other one"
    photos.replace("dvc.yaml", "echo trained", "exit 1; echo trained")
    add_photos(raw / "circle", 1, brightness=200)
    time.sleep(0.1)
    assert retrain(return_state=True).is_failed()
    assert len(Block.open(photos.root / "data")) == 66
    assert "nothing new: no retraining is started" in run(watching.watch), "nor does one that failed"


def test_new_data_beyond_a_limit_stop_the_run_with_the_reason(photos, raw: Path, prefect_server: None) -> None:
    from flows.retrain import retrain

    photos.write("dvc.yaml", ONE)
    photos.write("params.yaml", "models: {a: {family: vae}}\ndata: {max_duplicates: 0.1}\n")
    before = versioning.digest(photos.root)
    for level in (0, 9):  # one image in two files that differ
        Image.new("RGB", (9, 9), (9, 9, 77)).save(raw / "circle" / f"new-{level}.png", compress_level=level)
    time.sleep(0.1)
    state = retrain(return_state=True)
    assert state.is_failed() and "the new data are beyond a limit: " in state.message, state
    assert photos.ran() == [] and versioning.digest(photos.root) == before and versioning.matches(photos.root)


def test_a_source_that_cannot_be_used_leaves_the_data_as_they_are(photos, raw: Path, run) -> None:
    before = versioning.digest(photos.root)
    shutil.copytree(raw / "circle", raw / "triangle")
    assert "5 new" not in (told := run(watching.watch)) and "has classes that the block does not have: triangle" in told
    shutil.rmtree(raw)
    told = run(watching.watch)
    assert f"there is no source at {photos.root}/../raw; the data stay as they are" in told
    assert versioning.digest(photos.root) == before and versioning.matches(photos.root)


@pytest.mark.fault("clock moved")
@pytest.mark.parametrize("grows", [False, True])
def test_a_clock_that_was_set_back_by_a_day_holds_no_images_up(
    photos, raw: Path, run, monkeypatch, grows: bool
) -> None:
    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if grows:
            add_photos(raw / "circle", 1, brightness=200)

    waited: list[float] = []
    add_photos(raw / "circle", 5)
    monkeypatch.setattr(watching, "time", SimpleNamespace(time=lambda: time.time() - 86_400, sleep=sleep))
    told = run(watching.watch)
    assert waited == [0.05]
    assert ("left until all are 0.05 s old" if grows else "5 new images, 0 rejected, 60 already") in told, told


def test_an_archive_is_taken_when_it_is_quiet_and_whole(photos, raw: Path, run, monkeypatch) -> None:
    from prefect.client.orchestration import get_client
    from prefect.events import DeploymentEventTrigger

    from flows.retrain import retrain

    incoming = photos.root / "incoming"
    incoming.mkdir()
    monkeypatch.setenv("GENMODEL_INCOMING", "incoming")
    add_photos(raw / "circle", 9)
    with tarfile.open(photos.root.parent / "more.tar", "w") as tar:
        for path in sorted((raw / "circle").glob("new-*")):
            tar.add(path, f"circle/{path.name}")
            path.unlink()
    whole = (photos.root.parent / "more.tar").read_bytes()
    before = versioning.digest(photos.root)
    sources.announce(photos.root)
    run(watching.watch)  # the folder ../raw has changed, back to what it was

    monkeypatch.setenv("GENMODEL_QUIET", "100")
    (incoming / "more.tar").write_bytes(whole[: len(whole) // 2])
    os.utime(incoming / "more.tar", (1, 1))
    told = run(watching.watch)
    assert "looked at incoming/more.tar (1 file): a file changed" in told and "left until all are 100 s old" in told
    monkeypatch.setenv("GENMODEL_QUIET", "0.05")
    told = run(watching.watch)  # the copy has stalled
    assert "more.tar is" in told and "fetch it again; the data stay as they are" in told
    assert "nothing new: no retraining is started" in told and versioning.digest(photos.root) == before

    (incoming / "more.tar").write_bytes(whole)
    told = run(watching.watch)
    assert "9 new images, 0 rejected, 0 already in the block" in told
    assert f"data.dvc {versioning.digest(photos.root)} is new, and no deployment here waits for it" in told
    assert [step.source for step in Origin.of_data(photos.root).updates] == ["incoming/more.tar"]

    trigger = DeploymentEventTrigger(
        expect={watching.EVENT}, match={"prefect.resource.id": watching.resource(Settings.read({}, photos.root))}
    )
    deployment: Any = retrain.to_deployment(name="by-event", triggers=[trigger], paused=True)
    identity = deployment.apply()
    with get_client(sync_client=True) as client:
        new = f"data.dvc {versioning.digest(photos.root)} is new"
        assert f"{new}: run `python -m flows.retrain`" in run(watching.watch, start=False)
        told = run(watching.watch)
        assert "looked at incoming/more.tar (1 file): unchanged since it was read" in told
        assert f"{new}, and retrain/by-event is paused until somebody ends that: the switch of retrain/" in told
        client.resume_deployment(identity)
        assert f"{new}: a retraining is started" in run(watching.watch)
        assert "nothing new: no retraining is started" in run(watching.watch)
        client.delete_deployment(identity)


def test_the_data_follow_a_data_dvc_that_git_brought(photos, raw: Path) -> None:
    root = photos.root
    first, text = versioning.digest(root), (root / "data.dvc").read_text()
    add_photos(raw / "circle", 3)
    second = make(root, "../raw")
    for digest, content in ((first, text), (second, (root / "data.dvc").read_text())):
        (root / "data.dvc").write_text(content)
        assert not versioning.matches(root)
        assert ensure(root) == digest and versioning.matches(root)
    (root / "data.dvc").write_text(text)
    (root / "data/a-note").write_text("only here")
    with pytest.raises(VersioningError, match=r"does not match data\.dvc: run `dvc checkout --force data.dvc`"):
        ensure(root)
    assert (root / "data/a-note").read_text() == "only here"


def test_data_that_nobody_has_replace_none(photos) -> None:
    root = photos.root
    before = {path.name: path.read_bytes() for path in (root / "data").iterdir() if path.is_file()}
    digest = versioning.digest(root)
    photos.replace("data.dvc", digest, "0" * 32 + ".dir")
    for remote in (False, True):
        if remote:
            photos.dvc("remote", "add", "--default", "far", str(root.parent / "far"))
        with pytest.raises(VersioningError, match="which is in no cache and no remote: run `dvc push`"):
            ensure(root)
    assert {path.name: path.read_bytes() for path in (root / "data").iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("GENMODEL_LOOK", "no", "GENMODEL_LOOK=no must be 1 or 0"),
        ("GENMODEL_QUIET", "0", "GENMODEL_QUIET=0 must be a number of seconds above 0"),
        ("GENMODEL_WATCH", "hourly", "GENMODEL_WATCH='hourly' is not a schedule"),
    ],
)
def test_settings_that_are_wrong(tmp_path: Path, name: str, text: str, told: str) -> None:
    from genmodel.errors import ConfigError

    with pytest.raises(ConfigError, match=told):
        Settings.read({name: text}, tmp_path)
