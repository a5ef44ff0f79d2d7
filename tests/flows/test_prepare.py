"""Raw images -> data/ -> data.dvc, and the same data again in a fresh clone."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flows.prepare import ensure, main
from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin, Step
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import VersioningError
from genmodel.sizes import Size
from tests.flows.preparing import clone_of, forget_data, prepare

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


DIGITS = Origin(source="digits", sizes=(Size.of(16),))

RICH = Origin(
    source="val.tar",
    sizes=(Size.of(64), Size.of(256)),
    val_fraction=0.2,
    devkit="kit.tar.gz",
    updates=(Step(source="more", allow_rejects=0.5), Step(source="/abs/val.tar", devkit="../kit")),
)


def test_a_fresh_clone_makes_the_same_data_again(empty_project) -> None:
    root = empty_project.root
    state = prepare(root, DIGITS)
    assert state.is_completed(), state
    written = (root / "data.dvc").read_bytes()
    assert yaml.safe_load(written)["meta"] == {"source": "digits", "sizes": [16]}
    assert Origin.of_data(root) == DIGITS
    clone = clone_of(root)
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
    assert "verify = true" in (toy.root / ".dvc/config").read_text()
    forget_data(toy.root)
    assert versioning.restore(toy.root)


def test_a_source_that_is_not_there_is_one_line_and_leaves_all_as_it_was(toy, caplog: pytest.LogCaptureFixture) -> None:
    versioning.add(toy.root, DIGITS.as_dict())
    before = (toy.root / "data.dvc").read_bytes()
    state = prepare(toy.root, Origin(source="no/such.tar", sizes=(Size.of(16),)))
    assert state.is_failed()
    assert "no/such.tar" in state.message
    assert "\n" not in state.message
    assert "Traceback" not in caplog.text
    assert (toy.root / "data.dvc").read_bytes() == before
    assert versioning.matches(toy.root)


def test_the_command_line_names_what_is_wrong(
    toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(toy.root)
    with pytest.raises(SystemExit, match="2"):
        main(["--sizes", "64;256"])
    assert "a size is written as 64 or 128x64 (width x height), not '64;256'" in capsys.readouterr().err
    toy.write("data.dvc", "outs: []\nmeta: {sizes: all}\n")
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert capsys.readouterr().err.startswith("error: data.dvc: meta must hold source and sizes")
    toy.write("data.dvc", "outs: []\nmeta: {source: digits, sizes: [16], updates: [more]}\n")
    with pytest.raises(SystemExit, match="2"):
        main([])
    assert "and a source for each of the updates" in capsys.readouterr().err


def test_what_the_options_leave_open_is_as_data_dvc_has_it(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows import prepare

    asked: list[Origin] = []
    monkeypatch.chdir(toy.root)
    monkeypatch.setattr(prepare.launch, "run", lambda _flow, _settings, **given: asked.append(given["origin"]))
    monkeypatch.setattr(versioning, "digest", lambda _root: "")
    prepare.main([])
    versioning.add(toy.root, {"source": "raw", "sizes": [8], "allow_rejects": 0.5})  # as earlier versions wrote it
    prepare.main([])
    prepare.main(["--devkit", "kit.tar.gz", "--val-fraction", "0.5"])
    prepare.main(["--source", "../elsewhere.tar", "--sizes", "64,256", "--allow-rejects", "0.01"])
    versioning.add(toy.root, RICH.as_dict())
    prepare.main([])
    prepare.main(["--source", "raw"])
    prepare.main(["--update", "--source", "new", "--devkit", "/kit"])
    (toy.root / "digits").mkdir()
    prepare.main(["--source", "digits", "--classes", "depth 2", "--val-split", "dev"])
    assert asked == [
        DIGITS,
        Origin(source="raw", sizes=(Size.of(8),), allow_rejects=0.5),
        Origin(source="raw", sizes=(Size.of(8),), allow_rejects=0.5, val_fraction=0.5, devkit="kit.tar.gz"),
        Origin(source="../elsewhere.tar", sizes=(Size.of(64), Size.of(256))),
        RICH,
        Origin(source="raw", sizes=(Size.of(64), Size.of(256)), val_fraction=0.2),
        replace(RICH, updates=(*RICH.updates, Step(source="new", devkit="/kit"))),
        Origin(
            source="./digits",  # a folder, not the embedded ones
            sizes=(Size.of(64), Size.of(256)),
            val_fraction=0.2,
            layout=Layout(classes="depth 2", val_split="dev"),
        ),
    ]
