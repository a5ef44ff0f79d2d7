"""The report on a block: counts, duplicates, rejects, limits, and what people are shown."""

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.data_report import words
from genmodel.data_report.features import eye
from genmodel.data_report.markdown import markdown
from genmodel.data_report.report import compare
from genmodel.data_report.side import sides
from genmodel.evaluation.reference import make_reference
from genmodel.settings.config import DataConfig, EvaluationConfig
from genmodel.sizes import Size

CONFIG = EvaluationConfig(image_size=Size(8, 8), samples=16, classifier_images=64)


def report(block: Block, since: int = 1, reference: Path = Path("nowhere/reference")) -> dict[str, Any]:
    seen = eye(block, reference, CONFIG)
    return compare(block, *sides(block, since, seen.size), seen)


@pytest.fixture(scope="module")
def told(grown: Block) -> dict[str, Any]:
    return report(grown)


def test_classes_originals_duplicates_and_rejects_are_counted(told: dict[str, Any]) -> None:
    assert [tuple(each.values()) for each in told["classes"]] == [("cat", 40, 22), ("dog", 20, 0), ("<i>", 0, 4)]
    assert told["old"]["images"] == 60 and told["new"]["images"] == 26
    assert told["new"]["modes"] == {"RGB": 22, "L": 4} and told["new"]["width"] == [24] * 5
    assert told["new"]["smaller"] == 0 and told["largest"] == "16"
    twice = told["duplicates"]
    assert (twice["within"], twice["across"], twice["leaked"], twice["by"]) == (1, 1, 0, "pixels")
    assert ["cat/old again.png", "cat/03.png"] in map(list, twice["examples"])
    assert twice["share"] == 2 / 26
    assert told["rejects"]["files"] == 2 and told["rejects"]["share"] == 2 / 28


def test_a_duplicate_of_the_val_split_is_counted_and_one_in_the_train_split_is_a_leak(grown: Block) -> None:
    old, new = sides(grown, 1, Size(8, 8))
    assert old is not None
    place = old.names.index("cat/03.png")
    held_out = np.zeros(len(old), bool)
    held_out[place] = True
    object.__setattr__(old, "is_val", held_out)
    object.__setattr__(new, "is_val", np.zeros(len(new), bool))
    found = compare(grown, old, new, eye(grown, Path("nowhere"), CONFIG))
    assert (found["duplicates"]["of_val"], found["duplicates"]["leaked"]) == (1, 1)
    assert "1 train image equal to an image of the val split." in words.findings(found)


def test_the_new_images_are_brighter_and_the_report_says_so(told: dict[str, Any]) -> None:
    assert all(55 < row["mean"]["low"] < 66 < row["mean"]["high"] < 77 for row in told["colours"])
    assert told["features"]["low"] > told["features"]["chance"]
    said = " ".join(words.findings(told))
    for text in (
        "1 new class: <i>",
        "1 class without a new image: dog",
        "Red has moved",
        "drifted",
        "2 rejects (7.14%)",
    ):
        assert text in said
    assert json.loads(json.dumps(told, allow_nan=False))["features"]["by"].startswith("pixels averaged to 8 x 8")


def test_a_first_generation_is_not_compared(grown: Block) -> None:
    found = report(grown, since=0)
    assert found["old"] is None and found["features"] is None and found["colours"] == []
    assert found["new"]["images"] == 86
    assert words.exceeded(found, DataConfig(max_rejects=1.0, every_class=True, max_drift=0.0)) == []


def test_the_references_extractor_makes_the_features_if_it_fits(grown: Block, tmp_path: Path) -> None:
    made = make_reference(grown, Size(8, 8), CONFIG, tmp_path / "reference")
    by = report(grown, reference=tmp_path / "reference")["features"]["by"]
    assert by == f"features of the extractor classifier {made.about['extractor']['fingerprint'][:8]}"
    (tmp_path / "reference/extractor.safetensors").write_bytes(b"flipped")
    by = report(grown, reference=tmp_path / "reference")["features"]["by"]
    assert by.startswith("pixels averaged") and "extractor cannot be used" in by


LIMITS = [
    ({"max_rejects": 0.05}, "7.14% of the new files were rejected (data.max_rejects is 0.05)"),
    ({"max_rejects": 0.08}, None),
    ({"max_duplicates": 0.05}, "7.69% of the new images are duplicates (data.max_duplicates is 0.05)"),
    ({"max_duplicates": 0.08}, None),
    ({"every_class": True}, "1 class without a new image: dog (data.every_class is true)"),
    ({"keep_classes": True}, None),  # an update takes no class away
    ({"max_drift": 0.5}, "the images have drifted by "),
    ({"max_drift": 1000.0}, None),
]


@pytest.mark.parametrize(("limits", "reason"), LIMITS)
def test_a_limit_that_is_exceeded_is_named(told: dict[str, Any], limits: dict[str, Any], reason: str | None) -> None:
    found = words.exceeded(told, DataConfig(**{"max_rejects": 1.0, **limits}))
    assert len(found) == (reason is not None)
    assert reason is None or found[0].startswith(reason)


def test_rejects_that_were_allowed_and_a_single_one_stop_nothing(told: dict[str, Any]) -> None:
    assert words.exceeded(told, DataConfig(), allowed=0.5) == []
    one = {**told, "rejects": {**told["rejects"], "files": 1}}
    assert words.exceeded(told, DataConfig()) and words.exceeded(one, DataConfig()) == []


def test_a_class_that_data_made_anew_have_lost_is_a_limit(told: dict[str, Any]) -> None:
    remade = {**told, "remade": True}
    gone = ["1 class gone: dog (data.keep_classes is true)"]
    assert words.exceeded(remade, DataConfig(max_rejects=1.0)) == gone
    assert words.exceeded(remade, DataConfig(max_rejects=1.0, keep_classes=False)) == []


class Tags(HTMLParser):
    """All tags of a page, and addresses that it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.fetched: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_stands_alone_and_shows_names_as_text(
    grown: Block, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`genmodel report` writes the page and the JSON, and ends with 2 beyond a limit."""
    (tmp_path / "params.yaml").write_text("models: {}\ndata: {max_duplicates: 0.05, max_rejects: 1}\n")
    words_ = ["report", str(grown.path), "--out", str(tmp_path / "a.html"), "--reference", str(tmp_path / "none")]
    assert main(words_) == 0
    assert "26 new images from more, against the 60 images before them:" in capsys.readouterr().out
    with pytest.raises(SystemExit) as stopped:
        main([*words_[:3], str(tmp_path / "b.html"), *words_[4:], "--params", str(tmp_path / "params.yaml")])
    assert stopped.value.code == 2
    assert "7.69% of the new images are duplicates (data.max_duplicates is 0.05)" in capsys.readouterr().err
    for name in ("a", "b"):
        text = (tmp_path / f"{name}.html").read_text()
        page = Tags()
        page.feed(text)
        assert all(address.startswith("data:image/png;base64,") for address in page.fetched) and page.fetched
        assert "script" not in page.tags and "<b>" not in page.text
        assert "<i>" in page.text and '<th scope="row"><i>' not in text
        assert ("Stopped before anything was trained" in page.text) == (name == "b")
        assert "http" not in text.replace("[broken](http:__x).png", "")
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads((tmp_path / "b.json").read_text())


def test_markdown_shows_names_as_text(told: dict[str, Any]) -> None:
    text = markdown(told, ["<b>"], "data-reports/`x`.html")
    assert "| \\<i\\> | 0 | 4 |" in text and "| cat | 40 | 22 |" in text
    assert "**Stopped: \\<b\\>**" in text and "`data-reports/'x'.html`" in text
    assert "| red, mean |" in text


def test_a_generation_that_is_not_there_is_one_line(grown: Block, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["report", str(grown.path), "--since", "2"])
    assert capsys.readouterr().err == f"error: --since 2: the generations of {grown.path} are 0 to 1\n"


def test_old_images_may_be_replaced_while_they_are_compared(grown: Block, tmp_path: Path) -> None:
    """Data that are made anew take the place of those before: by then these are in memory."""
    shutil.copytree(grown.path, tmp_path / "data")
    block = Block.open(tmp_path / "data")
    _, before = sides(block, 0, Size(8, 8))
    shutil.rmtree(tmp_path / "data")
    found = compare(grown, before, sides(grown, 0, Size(8, 8))[1], eye(grown, Path("nowhere"), CONFIG), remade=True)
    assert found["features"]["drift"] == 0.0 and found["duplicates"]["across"] == 0
    assert not words.findings(found)[0].startswith("Red")
