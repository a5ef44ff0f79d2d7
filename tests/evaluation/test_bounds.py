"""Rows of reference: judged as models are, in the order that everyone expects, and shown without a rank."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.errors import EvaluationError
from genmodel.evaluation import bounds
from genmodel.evaluation.evaluate import evaluate
from genmodel.evaluation.judge import judge_bounds
from genmodel.evaluation.reference import make_reference
from genmodel.evaluation.telling.leaderboard import leaderboard, with_bounds, write
from genmodel.evaluation.telling.page import write_page
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

CONFIG = EvaluationConfig(samples=60, image_size=Size(16, 16), classifier_images=1280)


@pytest.mark.slow
def test_rows_of_reference_stand_beside_the_models_without_a_rank(
    block: Block, gan_folder: Path, tmp_path: Path
) -> None:
    reference = make_reference(block, Size(16, 16), CONFIG, tmp_path / "reference")
    bounds.write(tmp_path / "bounds.json", judge_bounds(block, reference, CONFIG))
    made = bounds.read(tmp_path / "bounds.json")
    assert list(made) == ["val images", "blurred val images", "noise"]
    for figure in ("fd_classifier", "wavelet_distance"):
        real, *worse = (judged.figures[figure] for judged in made.values())
        assert all(value > 3 * real for value in worse), (figure, real, worse)
    assert made["val images"].figures["precision"] > 0.8 and made["noise"].figures["precision"] == 0

    report, _ = evaluate(gan_folder, block, reference, CONFIG)
    shown = bounds.of_conditions(made, report)
    assert shown == made and made["noise"].conditions.n_samples == len(block.rows("val")) != CONFIG.samples
    frame = with_bounds(leaderboard([report]), shown)
    assert list(frame["rank"]) == [1, "n/a", "n/a", "n/a"] and list(frame["family"])[1:] == ["reference"] * 3
    write(frame, tmp_path / "leaderboard.csv", tmp_path / "leaderboard.md")
    with (tmp_path / "leaderboard.csv").open(newline="") as file:
        assert [row["model"] for row in csv.DictReader(file)][1:] == list(made)
    write_page([report], tmp_path, tmp_path / "page.html", bounds=shown)
    page = (tmp_path / "page.html").read_text()
    assert page.count('class="bound"') == 6, "main figures, and the others"
    assert "right of 3 classes (chance " in page

    other = replace(report, conditions=replace(report.conditions, seed=7))
    assert bounds.of_conditions(made, other) == {}, "judged under other conditions"


def test_without_enough_val_images_there_are_none(single_class_block: Block, tmp_path: Path) -> None:
    config = replace(CONFIG, extractor="pixels")
    reference = make_reference(single_class_block, Size(16, 16), config, tmp_path / "reference")
    assert len(single_class_block.rows("val")) < 16 and judge_bounds(single_class_block, reference, config) == {}


def test_missing_rows_name_the_stage_that_makes_them(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"bounds.json is missing: run `dvc repro -f -s reference` first"):
        bounds.read(tmp_path / "bounds.json")
