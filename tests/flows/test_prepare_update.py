"""Updates of the data by flows.prepare: shards of their own, layouts, the devkit, Tiny ImageNet's second half."""

import contextlib
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.prepare import ensure, main
from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin, Step
from genmodel.data.block import Block
from genmodel.data.sources.meaning.layout import Layout
from genmodel.errors import VersioningError
from genmodel.sizes import Size
from tests.flows.preparing import clone_of, forget_data, tree

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]
NEW, ALLOWED = "--allow-new-classes", Layout(allow_new_classes=True)


@pytest.fixture
def command(
    empty_project,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., str]:
    """Runs `python -m flows.prepare` in the project, on the tests' Prefect server; what it says."""
    from prefect.settings import PREFECT_API_URL

    monkeypatch.chdir(empty_project.root)
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())

    def run(*words: str) -> str:
        caplog.clear()
        capsys.readouterr()
        with contextlib.suppress(SystemExit):
            main([*words, "--workers", "1"])
        said = capsys.readouterr()
        return caplog.text + said.out + said.err

    return run


def test_updates_are_shards_of_their_own_and_a_clone_makes_them_all_again(
    empty_project, command: Callable[..., str], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = empty_project.root
    command("--source", sources[0], "--sizes", "8", "--val-fraction", "0.25", "--licence", "CC BY 4.0")
    assert Origin.of_data(root).licences == "CC BY 4.0"
    assert Block.open(root / "data").facts["val_fraction"] == 0.25
    before = tree(root / "data")
    said = command("--update", "--source", sources[1], NEW, "--allow-rejects", "0.5")
    assert "20 new images, 0 rejected, 0 already in the block" in said
    assert "to push: 4 new files, " in said and "8/shard-00001.npy  3,968" in said and "ledger-001" in said
    command("--update", "--source", sources[2], "--licence", "CC0")
    assert Origin.of_data(root).licences == "../first: CC BY 4.0; ../more: not stated; ../raw: CC0"
    after = tree(root / "data")
    assert all(after[name] == content for name, content in before.items() if name != "block.json")
    assert len(Block.open(root / "data")) == 60
    told = {"source": "../first", "sizes": [8], "val_fraction": 0.25, "licence": "CC BY 4.0"}
    steps = [
        {"source": "../more", "allow_rejects": 0.5, "allow_new_classes": True},
        {"source": "../raw", "licence": "CC0"},
    ]
    assert yaml.safe_load((root / "data.dvc").read_text())["meta"] == told | {"updates": steps}
    assert versioning.matches(root) and not (root / "data.update.json").exists()

    clone = clone_of(root)
    add, added = Step.add, []

    def dies_at_the_second(step: Step, *rest: Any) -> Any:
        added.append(step.source)
        if len(added) == 2:
            raise KeyboardInterrupt
        return add(step, *rest)

    monkeypatch.setattr(Step, "add", dies_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        ensure(clone, workers=1)
    assert not (clone / "data").exists()
    assert ensure(clone, workers=1) == versioning.digest(root)
    assert added == ["../more", "../raw", "../raw"], "what was finished is not made again"
    assert tree(clone / "data") == after
    assert (clone / "data.dvc").read_bytes() == (root / "data.dvc").read_bytes()
    assert sorted(path.name for path in clone.iterdir() if path.name.startswith("data")) == ["data", "data.dvc"]

    said = command("--sizes", "16")  # all the steps at another size
    assert Block.open(root / "data").sizes == [(16, 16)] and len(Block.open(root / "data").facts["generations"]) == 3
    assert Origin.of_data(root) == replace(Origin.of_data(clone), sizes=(Size.of(16),)), said


def test_the_layout_is_listed_asked_for_and_kept(
    empty_project, command: Callable[..., str], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--list does nothing; data.dvc keeps what the folders mean, a file of labels by its place beside the project."""
    root = empty_project.root
    said = command("--source", sources[2], "--sizes", "8", "--list")
    assert "../raw: 60 images in 2 classes; nothing was written" in said.replace(str(root) + "/", "")
    assert not (root / "data").exists() and not (root / "data.dvc").exists()
    labels = [
        f"{path.parent.name}/{path.name},{i % 3}" for i, path in enumerate(sorted((root / "../raw").rglob("*.png")))
    ]
    (root / "labels.csv").write_text("\n".join(labels))
    command("--source", sources[2], "--sizes", "8", "--classes", "labels.csv")
    assert Block.open(root / "data").classes == ["0", "1", "2"]
    assert Origin.of_data(root).layout == Layout(classes="labels.csv")
    before = tree(root / "data")
    forget_data(root)
    assert ensure(root, workers=1) == versioning.digest(root) and tree(root / "data") == before
    command("--source", sources[0], "--sizes", "8")
    said = command("--update", "--source", sources[1])
    assert (
        "error: " in said and "more has classes that the block does not have: square (square/" in said and NEW in said
    )
    assert "new classes: square (--allow-new-classes adds them)" in command(
        "--update", "--source", sources[1], "--list"
    )
    assert "new classes: square" in command("--update", "--source", sources[1], NEW)
    assert Origin.of_data(root).updates == (Step(source="../more", layout=ALLOWED),)


def test_an_update_with_nothing_new_leaves_data_dvc_alone(
    empty_project, command: Callable[..., str], sources: list[str]
) -> None:
    root = empty_project.root
    command("--source", sources[2], "--sizes", "8")
    before = tree(root / "data"), (root / "data.dvc").read_bytes()
    for _ in range(2):
        said = command("--update", "--source", sources[1])
        assert "0 new images, 0 rejected, 20 already in the block" in said
        assert "nothing to push" in said and "nothing is new: data.dvc stays as it is" in said
        assert "commit it" not in said
        assert (tree(root / "data"), (root / "data.dvc").read_bytes()) == before
        assert not (root / "data.update.json").exists()


def test_an_update_that_was_not_versioned_is_versioned_by_the_same_command(
    empty_project, command: Callable[..., str], sources: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = empty_project.root
    command("--source", sources[0], "--sizes", "8")
    before = (root / "data.dvc").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(versioning, "add", lambda *_: (_ for _ in ()).throw(VersioningError("no space left")))
        assert "error: no space left" in command("--update", "--source", sources[1], NEW)
    assert (root / "data.dvc").read_bytes() == before and not versioning.matches(root)
    said = command("--update", "--source", sources[2])
    assert "error: the data folder does not match data.dvc" in said, "another source is another update"
    said = command("--update", "--source", sources[1], NEW)
    assert "0 new images" in said and "commit it" in said
    assert Origin.of_data(root).updates == (Step(source="../more", layout=ALLOWED),) and versioning.matches(root)

    empty_project.dvc("remote", "add", "--default", "store", str(root.with_name("store")))  # what was not pushed
    assert "pushed to store" in command("--update", "--source", sources[1], NEW)
    forget_data(root)
    assert versioning.restore(root)


def test_an_update_needs_data_as_versioned(empty_project, command: Callable[..., str], sources: list[str]) -> None:
    root = empty_project.root
    assert "data.dvc is missing: version some data first" in command("--update", "--source", sources[1], NEW)
    command("--source", sources[0], "--sizes", "8")
    assert "error: --update needs --source" in command("--update")
    for option in (["--sizes", "16"], ["--val-fraction", "0.5"]):
        assert "error: --update keeps the data's sizes" in command("--update", "--source", sources[1], NEW, *option)
    (root / "data" / "stray").write_text("by hand")
    before = tree(root / "data"), (root / "data.dvc").read_bytes()
    said = command("--update", "--source", sources[1], NEW)
    assert "error: the data folder does not match data.dvc" in said
    assert (tree(root / "data"), (root / "data.dvc").read_bytes()) == before
    (root / "data" / "stray").unlink()
    forget_data(root)  # then it is made again first
    command("--update", "--source", sources[1], NEW)
    assert len(Block.open(root / "data")) == 50
    forget_data(root)
    shutil.rmtree(root / sources[1])
    with pytest.raises(VersioningError, match=r"cannot be made again: there is no source at \S*more: [^\n]+$"):
        ensure(root)
    assert not list(root.glob("data.steps-*")), "nothing was made in vain"


def test_the_devkit_is_passed_on(empty_project, command: Callable[..., str], sources: list[str], raw: Path) -> None:
    """Here one that is none: genmodel's own tests read real ones."""
    kit = empty_project.root.with_name("kit.tar.gz")
    with tarfile.open(kit, "w:gz") as nothing:
        nothing.add(raw / "circle/000.png", "readme.txt")
    with tarfile.open(kit.with_name("val.tar"), "w") as val:
        val.add(raw / "circle/000.png", "ILSVRC2012_val_00000001.JPEG")
    words = ["--source", "../val.tar", "--devkit", "../kit.tar.gz"]
    assert "kit.tar.gz is not the devkit of ILSVRC2012" in command(*words)
    command("--source", sources[0], "--sizes", "8")
    assert "kit.tar.gz is not the devkit of ILSVRC2012" in command("--update", *words)
    assert Origin.of_data(empty_project.root).updates == ()


def test_tiny_imagenet_b_added_to_a(
    empty_project, command: Callable[..., str], tmp_path: Path, shared_data: Callable[[str], Path]
) -> None:
    """Some 300 images of each archive."""
    root = empty_project.root
    for part in ("a", "b"):
        with (
            tarfile.open(shared_data(f"tiny-imagenet-{part}.tar.gz")) as whole,
            tarfile.open(tmp_path / f"{part}.tar.gz", "w:gz") as some,
        ):
            members = [member for member, _ in zip(whole, range(300), strict=False) if member.isfile()]
            for member in members:
                some.addfile(member, whole.extractfile(member))
    command("--source", "../a.tar.gz", "--sizes", "64")
    before = tree(root / "data")
    images = len(Block.open(root / "data"))
    assert images > 250 and "to push" in command("--update", "--source", "../b.tar.gz", NEW)
    after = tree(root / "data")
    assert all(after[name] == content for name, content in before.items() if name != "block.json")
    assert len(Block.open(root / "data")) > images + 250 and versioning.matches(root)
    clone = clone_of(root)
    assert ensure(clone, workers=1) == versioning.digest(root) and tree(clone / "data") == after
