"""New data beyond a limit of params.yaml stop before they are versioned or trained on; data/ stays as it was."""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows import data_report
from flows.prepare import main
from flows.running import line
from flows.settings import Settings
from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin
from genmodel.data.block import Block
from genmodel.errors import GenmodelError

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.slow]


@pytest.fixture
def root(empty_project, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project; beside it 24 images of two classes in first/, and in more/ 6 new circles and 4 of these again."""
    from prefect.settings import PREFECT_API_URL

    for number in range(12):
        for name in ("circle", "square"):
            _copy(raw / name / f"{number:03d}.png", tmp_path / "first" / name)
    for number in range(12, 18):
        _copy(raw / "circle" / f"{number:03d}.png", tmp_path / "more/circle")
    for number in range(4):
        again = tmp_path / f"more/circle/again {number}.png"
        Image.open(raw / "circle" / f"{number:03d}.png").save(again, compress_level=1)  # other bytes
    monkeypatch.chdir(empty_project.root)
    monkeypatch.setenv("PREFECT_API_URL", PREFECT_API_URL.value())
    return Path(empty_project.root)


def _copy(path: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(path, folder)


@pytest.fixture
def prepare(root: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    """Runs `python -m flows.prepare`; its exit code and the last line on stderr."""

    def run(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        try:
            code = main([*words, "--workers", "1"])
        except SystemExit as stopped:
            code = int(str(stopped.code))
        said = capsys.readouterr().err.strip().splitlines()
        return code, next((text for text in reversed(said) if text.startswith("error: ")), "")

    return run


def limit(root: Path, text: str) -> None:
    (root / "params.yaml").write_text(f"data: {{{text}}}\n")


def tree(root: Path) -> dict[str, bytes]:
    found = {path.relative_to(root).as_posix(): path for path in (root / "data").rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items()} | {"data.dvc": (root / "data.dvc").read_bytes()}


def artifact(key: str = "data-report") -> Any:
    """The newest one of this key, as Prefect's UI shows it."""
    from prefect.artifacts import Artifact

    async def get() -> Any:
        return await Artifact.aget(key)

    found: Any = asyncio.run(get())
    return found.data


def test_an_update_beyond_a_limit_is_not_taken_until_the_limit_is_raised(
    root: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    limit(root, "max_duplicates: 0.2")
    assert prepare("--source", "../first", "--sizes", "8") == (0, "")
    assert "24 images from first; there are none to compare them with" in artifact()
    before = tree(root)
    update = ("--update", "--source", "../more")
    for _ in range(2):  # the second time as the first
        code, said = prepare(*update)
        assert code == 2
        assert said.startswith(
            "error: the new data are beyond a limit: 40.00% of the new images are duplicates (data.max_duplicates is "
            "0.2); data-reports/"
        )
        assert said.endswith(
            " has all of it; data/ is again as data.dvc has it; to accept the data change that setting in params.yaml "
            "and run the same command again"
        )
        assert tree(root) == before and versioning.matches(root) and not (root / "data.refused").exists()
    page = root / said.partition("; data-reports/")[2].partition(" ")[0]
    assert "Stopped before anything was trained" in (root / "data-reports" / page.name).read_text()
    assert "**Stopped: 40.00% of the new images" in artifact() and "| circle | 12 | 10 |" in artifact()
    data_report.check(root)  # a retraining goes on with the data of before

    limit(root, "max_duplicates: 0.5")
    assert prepare(*update) == (0, "")
    assert len(Block.open(root / "data")) == 34 and versioning.matches(root)
    assert "Stopped" not in artifact()


def test_a_class_gone_from_the_source_stops_data_made_anew_but_another_source_does_not(
    root: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    limit(root, "")
    assert prepare("--source", "../first", "--sizes", "8") == (0, "")
    before = tree(root)
    (root / "../first/square").rename(root / "../square")
    code, said = prepare("--source", "../first")
    assert code == 2 and "1 class gone: square (data.keep_classes is true)" in said
    assert tree(root) == before
    assert prepare("--source", "../more") == (0, "")
    assert Block.open(root / "data").classes == ["circle"]
    block_json = root / "data/block.json"
    block_json.chmod(0o644)
    block_json.write_text("{}")
    assert prepare("--source", "../more") == (0, ""), "damaged data may be made again"


def test_rejects_are_counted_among_what_is_new_unless_they_were_allowed(
    root: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    """The preparation counts them among all files of the source, which a folder that grew has mostly seen before."""
    limit(root, "max_rejects: 0.1")
    assert prepare("--source", "../first", "--sizes", "8") == (0, "")
    for number in range(2):
        (root / f"../first/circle/broken {number}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes([number]))
    _copy(root / "../more/circle/012.png", root / "../first/circle")
    update = ("--update", "--source", "../first")
    code, said = prepare(*update, "--allow-rejects", "0.1")
    assert code == 2 and "66.67% of the new files were rejected (data.max_rejects is 0.1)" in said
    assert prepare(*update, "--allow-rejects", "0.7") == (0, "")


def test_a_retraining_judges_data_that_were_not_prepared_here(
    root: Path, prepare: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert prepare("--source", "../first", "--sizes", "8") == (0, "")
    assert prepare("--update", "--source", "../more") == (0, ""), "without limits nothing is stopped"
    shutil.rmtree(root / "data-reports")  # as in a clone
    data_report.check(root)
    assert not (root / "data-reports").exists(), "without limits nothing is looked at"
    limit(root, "every_class: true")
    settings = Settings.read({"PREFECT_API_URL": "x"}, root)
    state = line.ensure_data(settings, return_state=True)
    assert state.is_failed()
    assert "1 class without a new image: square (data.every_class is true)" in str(state.message)
    assert "nothing was trained" in str(state.message) and "\n" not in str(state.message)
    assert "**Stopped: 1 class without a new image" in artifact()

    made = data_report._made
    monkeypatch.setattr(data_report, "_made", lambda *_: pytest.fail("the report is there already"))
    with pytest.raises(GenmodelError, match="every_class"):
        data_report.check(root)
    limit(root, "every_class: false")
    data_report.check(root)
    monkeypatch.setattr(data_report, "_made", made)
    (kept,) = (root / "data-reports").glob("*.json")
    kept.write_text(kept.read_text()[:100])
    with pytest.raises(GenmodelError, match=r"^[^\n]*\.json is damaged: delete it, and run again$"):
        data_report.check(root)


def test_data_that_are_in_no_cache_are_left_as_they_were_made(
    root: Path, prepare: Callable[..., tuple[int, str]]
) -> None:
    limit(root, "max_duplicates: 0.2")
    assert prepare("--source", "../first", "--sizes", "8") == (0, "")
    for path in (root / "data").rglob("*"):  # they may be links into the cache
        if path.is_file():
            content = path.read_bytes()
            path.unlink()
            path.write_bytes(content)
    shutil.rmtree(root / ".dvc/cache")
    update = ("--update", "--source", "../more")
    code, said = prepare(*update)
    assert code == 2 and "data/ is as it was made, because what data.dvc has is in no cache and no remote" in said
    limit(root, "max_duplicates: 0.5")
    assert prepare(*update) == (0, ""), "the same command takes what was made"
    assert len(Block.open(root / "data")) == 34 and len(Origin.of_data(root).updates) == 1
