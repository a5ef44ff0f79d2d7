"""What a run shows at its end is what its stages wrote, without secrets and without markup from outside."""

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from PIL import Image
from rich.console import Console

from flows.running import launch
from flows.settings import Settings
from flows.telling import outcome
from genmodel.errors import GenmodelError, TrackingError

NASTY = "\x1b[2J![p](http://evil.example/p.png)<script>\u202e"
SECRET = "postgresql://me:pa55word@db.example/x"
WRITTEN = {
    "ranking.csv": b"model,fd_classifier\nvae,1.5\n",
    "reports/vae.json": b'{"fd": 1.5}',
    "figures/vae.json": b'{"fd": 1.5}',
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A ranking, one model's samples under a hostile name, and what the stage `register` said."""
    (tmp_path / "ranking.csv").write_text(f"model,fd_toy\n{NASTY},1.5\n")
    samples = tmp_path / "models" / "![p](x)<b>\x1b[2J" / "samples"
    samples.mkdir(parents=True)
    Image.new("RGB", (2, 2)).save(samples / "0000000064.png")
    (tmp_path / "champion.json").write_text(json.dumps({"text": f"rejected: {NASTY} {SECRET}"}))
    return tmp_path


def check(text: str) -> None:
    assert "pa55word" not in text and "me:***@" in text
    assert "\x1b" not in text and "\u202e" not in text and "\\x1b" in text


def test_prefect_s_page_shows_no_password_and_no_markup_of_others(project: Path) -> None:
    uri = "https://me:pa55word@tracker.example"
    text = outcome.markdown(Settings.read({"MLFLOW_TRACKING_URI": uri}, project))
    check(text)
    assert "<https://me:***@tracker.example>" in text
    html = pytest.importorskip("markdown_it").MarkdownIt("commonmark").enable("table").render(text)
    assert html.count("<img ") == 1 and 'src="data:image/png;base64,' in html, "the samples themselves"
    assert "<script" not in html and "<b>" not in html and 'href="http://evil' not in html
    assert "http://evil" not in text, "which a page may make a link of"


def test_the_terminal_shows_no_password_and_nothing_that_acts(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome.show(Settings.read({}, project))
    check(capsys.readouterr().out)


def test_a_failed_state_shows_no_password_and_nothing_that_acts() -> None:
    @launch.one_line
    def step() -> None:
        raise TrackingError(f"cannot reach {SECRET}: {NASTY}")

    check(step().message)  # type: ignore[func-returns-value,attr-defined]


def written(root: Path) -> None:
    stages = {}
    for name, content in WRITTEN.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        out = {"path": name, "md5": hashlib.md5(content).hexdigest()}
        stages[name] = {"cmd": "true", "outs": [out, {"path": "models/gone", "md5": "0" * 32 + ".dir"}]}
    (root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))


@pytest.mark.parametrize("name", WRITTEN)
def test_a_figure_that_is_not_what_a_stage_wrote_is_not_shown(tmp_path: Path, name: str) -> None:
    written(tmp_path)
    assert [(row["model"], row["fd_classifier"]) for row in outcome.leaderboard(tmp_path)] == [("vae", 1.5)]
    damaged = tmp_path / name
    damaged.write_bytes(WRITTEN[name].replace(b"1", b"0"))
    with pytest.raises(GenmodelError) as error:
        outcome.leaderboard(tmp_path)
    assert str(error.value) == f"{damaged} is damaged, it is not what dvc.lock says: delete it and run again"


def test_figures_stand_before_their_intervals() -> None:
    """In Prefect's table, which is as wide as all its columns."""
    row = {"rank": 1, "model": "vae", "fd_classifier": 1.0, "fd_classifier_low": 0.5, "fd_classifier_high": 1.5,
           "density": 0.5, "density_low": 0.1, "precision": 0.9, "precision_low": 0.8, "data": "ab"}  # fmt: skip
    (told,) = outcome.figures_first([row])
    assert told == row
    main, details = ["rank", "model", "fd_classifier", "precision"], ["density", "data"]
    ends = ["fd_classifier_low", "fd_classifier_high", "density_low", "precision_low"]
    assert list(told) == [*main, *details, *ends]
    assert outcome.figures_first([]) == []


@pytest.mark.parametrize("width", [60, 80, 160])
def test_no_word_and_no_number_is_cut_on_a_narrow_terminal(width: int) -> None:
    figures = {f"bits_per_dim_number_{n}": 0.123456 + n for n in range(12)}
    rows = [{"rank": 1, "model": "a-model-of-somebody", "family": "vae", **figures}]
    console = Console(width=width, markup=False)
    with console.capture() as capture:
        console.print(outcome._fitting(rows, console))
    lines = capture.get().splitlines()
    assert "…" not in capture.get() and max(len(line.rstrip()) for line in lines) <= width
    shown = [f"{value:.4g}" for value in figures.values()]
    (row,) = [line for line in lines if "a-model-of-somebody" in line]
    assert [cell for cell in row.split() if cell in shown] == shown[: sum(cell in row for cell in shown)]
    assert 1 <= sum(cell in row for cell in shown) <= 12 and (shown[-1] in row) == (width == 160)
