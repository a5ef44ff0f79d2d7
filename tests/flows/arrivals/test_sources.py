"""Whether a source has anything new is known by sizes and times; nothing is read for it."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest

from flows.arrivals import sources
from flows.versioning.origin import Origin, Step
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import SourceError
from genmodel.sizes import Size


def write(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def data_dvc(root: Path, digest: str) -> None:
    write(root / "data.dvc", f"outs:\n- md5: {digest}.dir\n  path: data\n")


def digest(place: object) -> str:
    return sources.read_state(str(place)).digest


def test_a_folder_s_state_is_its_names_sizes_and_times(tmp_path: Path) -> None:
    photo, other = write(tmp_path / "photos/cat/1.png"), write(tmp_path / "photos/cat/2.png")
    photos = tmp_path / "photos"
    state = sources.read_state(str(photos))
    assert state.files == 2 and state == sources.read_state(str(photos))
    assert state.changed == max(photo.stat().st_ctime, other.stat().st_ctime)
    write(photos / ".1.png.rsync")
    write(photos / "__MACOSX/1.png")
    assert digest(photos) == state.digest, "its reader passes over them"
    seen = {state.digest}
    for change in (
        lambda: write(photos / "dog/3.png"),
        lambda: photo.write_text("longer"),
        lambda: os.utime(photo, ns=(1, photo.stat().st_mtime_ns + 1)),
        lambda: other.rename(photos / "cat/4.png"),
        lambda: (photos / "dog/3.png").unlink(),
    ):
        change()
        assert digest(photos) not in seen
        seen.add(digest(photos))


def test_nothing_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "photos/cat/1.png")
    monkeypatch.setattr("builtins.open", lambda *_: pytest.fail("a file was opened"))
    monkeypatch.setattr(Path, "open", lambda *_, **__: pytest.fail("a file was opened"))
    assert sources.read_state(str(tmp_path / "photos")).files == 1


def test_an_mtime_that_is_set_back_hides_no_copy(tmp_path: Path) -> None:
    """As `cp -p`, rsync and unzip leave it."""
    photo = write(tmp_path / "1.png")
    os.utime(photo, (1, 1))
    assert sources.read_state(str(tmp_path)).changed > 2


def test_archives_patterns_and_split_archives(tmp_path: Path) -> None:
    one = write(tmp_path / "train-0.tar")
    before = digest(tmp_path / "train-*.tar")
    write(tmp_path / "train-1.tar")
    assert digest(tmp_path / "train-*.tar") != before
    assert sources.read_state(str(one)).files == 1
    for part in ("001", "002"):
        write(tmp_path / f"all.zip.{part}")
    assert sources.read_state(str(tmp_path / "all.zip.001")).files == 2


@pytest.mark.parametrize("place", ["gone", "gone/*.tar", "gone-{0..1}.tar"])
def test_a_source_that_is_not_there(tmp_path: Path, place: str) -> None:
    with pytest.raises(SourceError, match=r"^there is no source at|^cannot read"):
        sources.read_state(str(tmp_path / place))


def test_each_source_is_looked_at_once_and_read_as_it_was_last(tmp_path: Path) -> None:
    later = Layout(allow_new_classes=True)
    origin = Origin(
        source="photos",
        licence="CC0",
        sizes=(Size.of(8),),
        updates=(Step(source="photos", layout=later), Step(source="b")),
    )
    assert sources.steps(origin) == [Step(source="photos", layout=later), Step(source="b")]
    (first,) = sources.steps(Origin(source="photos", licence="CC0", sizes=(Size.of(8),)))
    assert first == Step(source="photos", licence="CC0") and type(first) is Step
    assert sources.steps(Origin(source="digits", sizes=(Size.of(8),))) == []


def test_new_archives_of_a_folder(tmp_path: Path) -> None:
    incoming = tmp_path / "incoming"
    for name in ("a.tar", "b.tar", ".c.tar.part"):
        with tarfile.open(write(incoming / name), "w") as tar:
            tar.add(write(tmp_path / "1.png"), "cat/1.png")
    write(incoming / "notes.txt")
    write(incoming / "empty.tar", "")
    (incoming / "folder").mkdir()
    known = [Step(source="./incoming/../incoming/a.tar")]
    assert sources.arrivals(tmp_path, ["incoming"], known) == (
        [Step(source="incoming/b.tar")],
        ["incoming/empty.tar", "incoming/notes.txt"],
    )
    with pytest.raises(SourceError, match=r"cannot read .*elsewhere: No such file"):
        sources.arrivals(tmp_path, ["elsewhere"], known)


def test_only_the_data_that_a_source_was_read_for_have_it_all(tmp_path: Path) -> None:
    write(tmp_path / "photos/1.png")
    write(tmp_path / "more/1.png")
    photos, more = Step(source="photos"), Step(source="more")
    state = sources.read_state(photos.location(tmp_path))
    data_dvc(tmp_path, "a" * 32)
    assert not sources.is_read(tmp_path, "photos", state)
    sources.keep(tmp_path, sources.states(tmp_path, [photos, Step(source="digits"), Step(source="gone")]))
    assert sources.is_read(tmp_path, "photos", state)

    data_dvc(tmp_path, "b" * 32)  # an update, by what was in `more`
    sources.keep(tmp_path, sources.states(tmp_path, [more]), "a" * 32 + ".dir")
    assert sources.is_read(tmp_path, "photos", state), "and the photos are still in it"
    data_dvc(tmp_path, "c" * 32)  # git brought it
    assert not sources.is_read(tmp_path, "photos", state)
    sources.keep(tmp_path, sources.states(tmp_path, [more]))
    assert not sources.is_read(tmp_path, "photos", state)


@pytest.mark.parametrize("note", ["", "[]", "{", '{"sources": 3}', "\0"])
def test_a_damaged_note_costs_one_more_reading(tmp_path: Path, note: str) -> None:
    write(tmp_path / "photos/1.png")
    data_dvc(tmp_path, "a" * 32)
    write(tmp_path / "runs/sources.json", note)
    assert not sources.is_read(tmp_path, "photos", sources.read_state(str(tmp_path / "photos")))
    sources.announce(tmp_path)
    assert sources.is_announced(tmp_path)


def test_data_are_announced_once(tmp_path: Path) -> None:
    """Also by a retraining itself; and those that a stage of dvc.lock has run with need none."""
    data_dvc(tmp_path, "a" * 32)
    assert not sources.is_announced(tmp_path)
    sources.announce(tmp_path)
    assert sources.is_announced(tmp_path)
    data_dvc(tmp_path, "b" * 32)
    assert not sources.is_announced(tmp_path)
    deps = f"deps:\n    - {{path: data, md5: {'b' * 32}.dir}}\n    - {{path: code.json, md5: {'c' * 32}}}"
    write(tmp_path / "dvc.lock", f"schema: '2.0'\nstages:\n  train:\n    {deps}\n  register:\n    cmd: x\n")
    assert sources.is_announced(tmp_path)
    data_dvc(tmp_path, "c" * 32)
    assert not sources.is_announced(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    (tmp_path / "dvc.lock").write_text("")
    assert not sources.is_announced(tmp_path)
