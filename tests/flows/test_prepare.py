"""Raw images -> data/ -> data.dvc, and the same data again in a fresh clone."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from flows import versioning
from flows.prepare import Origin, ensure
from genmodel.errors import VersioningError

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]

DIGITS = Origin(source="digits", sizes=(16,))


def prepare(root: Path, origin: Origin) -> Any:
    from flows.prepare import prepare

    return prepare(root, origin, workers=1, return_state=True)


def forget_data(root: Path) -> None:
    shutil.rmtree(root / "data")
    shutil.rmtree(root / ".dvc/cache")


def test_a_fresh_clone_makes_the_same_data_again(empty_project, tmp_path: Path) -> None:
    root = empty_project.root
    state = prepare(root, DIGITS)
    assert state.is_completed(), state
    written = (root / "data.dvc").read_bytes()
    assert Origin.of_data(root) == DIGITS
    subprocess.run(["git", "add", "data.dvc", ".dvc"], cwd=root, check=True)
    author = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run(["git", *author, "commit", "--quiet", "--message", "data"], cwd=root, check=True)
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(root), str(clone)], check=True)
    assert not (clone / "data").exists()
    assert ensure(clone, workers=1) == versioning.digest(root)
    assert (clone / "data.dvc").read_bytes() == written
    assert versioning.matches(clone)

    forget_data(clone)
    text = (clone / "data.dvc").read_text()
    (clone / "data.dvc").write_text(text.replace(versioning.digest(clone), "0" * 32 + ".dir"))
    with pytest.raises(VersioningError, match=r"^data/ made from digits is not what data.dvc says: [^\n]+$"):
        ensure(clone, workers=1)
    assert versioning.digest(clone) == "0" * 32 + ".dir", "data.dvc is not touched"


def test_prepared_data_is_pushed_where_a_remote_is_set(toy, tmp_path: Path) -> None:
    toy.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    assert prepare(toy.root, DIGITS).is_completed()
    forget_data(toy.root)
    assert versioning.restore(toy.root)


def test_a_source_that_is_not_there_is_one_line_and_leaves_all_as_it_was(toy, caplog: pytest.LogCaptureFixture) -> None:
    versioning.add(toy.root, DIGITS.as_dict())
    before = (toy.root / "data.dvc").read_bytes()
    state = prepare(toy.root, Origin(source="no/such.tar", sizes=(16,)))
    assert state.is_failed()
    assert "no/such.tar" in state.message
    assert "\n" not in state.message
    assert "Traceback" not in caplog.text
    assert (toy.root / "data.dvc").read_bytes() == before
    assert versioning.matches(toy.root)


def test_the_command_line_names_what_is_wrong(
    toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from flows.prepare import main

    monkeypatch.chdir(toy.root)
    with pytest.raises(SystemExit, match="2"):
        main(["--sizes", "64;256"])
    assert "write sizes as 64 or 64,256, not '64;256'" in capsys.readouterr().err
    toy.write("data.dvc", "outs: []\nmeta: {sizes: all}\n")
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.startswith("error: data.dvc: meta must hold source and sizes")


def test_what_the_options_leave_open_is_as_data_dvc_has_it(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import prepare

    asked: list[Origin] = []
    monkeypatch.chdir(toy.root)
    monkeypatch.setattr(prepare.launch, "run", lambda _flow, _settings, **given: asked.append(given["origin"]))
    monkeypatch.setattr(versioning, "digest", lambda _root: "")
    prepare.main([])
    versioning.add(toy.root, {"source": "raw", "sizes": [8], "allow_rejects": 0.5})
    prepare.main([])
    prepare.main(["--source", "../elsewhere.tar", "--sizes", "64,256", "--allow-rejects", "0.01"])
    assert asked == [
        DIGITS,
        Origin(source="raw", sizes=(8,), allow_rejects=0.5),
        Origin(source="../elsewhere.tar", sizes=(64, 256)),
    ]
