"""A new figure is one entry of the table: whoever shows figures or judges by them follows it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genmodel.data.block import Block
from genmodel.evaluation import table
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.figures.bootstrap import Estimate, mean
from genmodel.evaluation.figures.held_out import Shown
from genmodel.evaluation.figures.of_features import HAS, Compared
from genmodel.evaluation.gate import decide
from genmodel.evaluation.reference import make_reference
from genmodel.evaluation.telling.card import model_card
from genmodel.evaluation.telling.leaderboard import leaderboard, markdown, seeds_table
from genmodel.evaluation.telling.page import write_page
from genmodel.models import abilities
from genmodel.settings.config import EvaluationConfig, GateConfig
from genmodel.sizes import Size

CONFIG = EvaluationConfig(samples=40, extractor="pixels")


def loudness(compared: Compared) -> Estimate:
    return mean(compared.samples.values.double().abs().mean(dim=1))


def darkness(shown: Shown, rng: torch.Generator) -> torch.Tensor:
    return 255 - shown.levels.flatten(1).mean(dim=1)


LOUD = table.Figure(
    name="loud_{extractor}",
    better="lower",
    made_by=f"{__name__}:loudness",
    meaning="how loud the features are",
    format="{:.1f} dB",
)
DARK = table.Figure(
    name="dark", better="higher", needs="Reconstructs", made_by=f"{__name__}:darkness", meaning="how dark the house is"
)


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "FIGURES", (*table.FIGURES, LOUD, DARK))


@pytest.mark.usefixtures("house")
def test_a_new_figure_is_one_entry(block: Block, vae_folder: Path, gan_folder: Path, tmp_path: Path) -> None:
    """A figure of samples and one of an ability: in reports, intervals, leaderboard, Markdown, seeds, page and card."""
    reference = make_reference(block, Size(16, 16), CONFIG, tmp_path / "reference")
    vae, gan = (evaluate(folder, block, reference, CONFIG)[0] for folder in (vae_folder, gan_folder))
    for report, names in ((vae, ["loud_pixels", "dark"]), (gan, ["loud_pixels"])):
        for name in names:
            low, high = report.intervals[name]
            assert low < report.figures[name] < high  # type: ignore[operator]
    assert gan.figures["dark"] is None and "dark" not in gan.intervals

    frame = leaderboard([vae, gan])
    columns = list(frame)
    assert columns.index("loud_pixels") < columns.index("precision") < columns.index("dark"), (
        "the extractor's own first"
    )
    assert columns[columns.index("dark") + 1 :][:2] == ["dark_low", "dark_high"]
    assert set(frame["dark"]) == {vae.figures["dark"], "n/a"}
    told = f"{vae.figures['loud_pixels']:.1f} dB"
    assert f" {told} [" in markdown(frame)
    seeds = seeds_table([vae, replace(vae, name="other", weights="o" * 64)])
    assert seeds is not None and seeds.loc[0, "loud_pixels"] == f"{told} ± 0.0 dB"

    write_page([vae, gan], tmp_path, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "<dd>how loud the features are; lower is better</dd>" in page and f"\n{told}" not in page and told in page
    assert "how dark the house is; higher is better; for models with the ability Reconstructs" in page

    about = {"name": "v", "weights": "w" * 64, "fingerprint": "f" * 64, "config": {"family": "vae", "image_size": 16}}
    card = model_card(about, vae, data={}, cost={})
    assert f"| loud_pixels | {told} | [" in card and " | lower |" in card.split("| loud_pixels |")[1].splitlines()[0]


def test_an_entry_that_names_a_setting_of_the_gate_is_a_guardrail(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.reports import made_report

    bounded = replace(DARK, guardrail="min_precision")
    monkeypatch.setattr(table, "FIGURES", (*table.FIGURES, bounded))
    decision = decide(made_report("a", {"fd_classifier": 1.0, "dark": 0.2}), None, GateConfig(min_precision=0.3))
    assert decision.outcome == "reject" and decision.reasons[-1] == "dark 0.2 breaks the floor of 0.3."


def test_every_entry_can_be_worked_out_and_applies_somewhere() -> None:
    names = [figure.name for figure in table.FIGURES]
    assert len(set(names)) == len(names)
    for figure in table.FIGURES:
        assert callable(figure.function()) and figure.meaning and not figure.meaning.endswith(".")
        assert figure.needs in HAS or hasattr(abilities, figure.needs) or figure.needs == "weights"
        assert (figure.needs in table.ABILITIES) == hasattr(abilities, figure.needs)
        assert not figure.guardrail or (hasattr(GateConfig(), figure.guardrail) and figure.better != "neither")


@pytest.mark.parametrize("extractor", ["classifier", "dinov2", "inception"])
def test_a_column_is_known_by_its_figure(extractor: str) -> None:
    for figure in table.FIGURES:
        for end in ("", "_low", "_high", "_mean", "_spread"):
            assert table.of_column(figure.called(extractor) + end) is figure, figure.name + end
    assert table.of_column("seconds") is table.of_column("model") is table.of_column("fd_") is None


def test_cells_are_in_the_figure_s_format_and_tell_what_is_no_number() -> None:
    shown = [
        table.show(name, value) for name, value in (("psnr", 21.5), ("accuracy", 0.98765), ("accuracy", float("nan")))
    ]
    assert shown == ["21.50 dB", "98.8%", "nan"]
    assert [table.show("seconds", 3), table.show("kwh", 0.5), table.show("psnr", "n/a")] == ["3", "0.5000", "n/a"]


def test_who_shows_and_compares_needs_no_torch() -> None:
    modules = ("table", "report", "gate", *(f"telling.{name}" for name in ("leaderboard", "page", "card", "costs")))
    script = f"import importlib, sys\nfor name in {modules}: importlib.import_module(f'genmodel.evaluation.{{name}}')\n"
    script += "print([name for name in ('torch', 'torchvision') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
