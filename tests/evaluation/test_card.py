"""The model card: every fact that it was given, and a word where one is missing."""

import pytest

from genmodel.evaluation.card import model_card
from tests.reports import made_report

ABOUT = {
    "name": "small",
    "fingerprint": "f" * 64,
    "weights": "a" * 64,
    "config": {"family": "vae", "image_size": 16},
}
REPORT = made_report(
    "small",
    {"fd_classifier": 8.1174, "copied": 0.0125, "bits_per_dim": None},
    intervals={"fd_classifier": [7.9, 8.3211]},
    conditions={"n_samples": 2000},
    memorisation={
        "copied": 0.0125, "visible": 0.001, "seen": True, "verdict": "1.25% of the samples copy training images.",
    },
    health=["The variance of the samples is a tenth of the data's."],
)  # fmt: skip
DATA = {"source": "digits", "images": 1797, "digest": "0123.dir"}


def section(text: str, title: str) -> str:
    """What stands under a heading."""
    return text.split(f"## {title}\n\n")[1].split("\n\n## ")[0].strip()


def test_a_card_with_everything() -> None:
    text = model_card(ABOUT, REPORT, data=DATA, cost={"seconds": 54.26}, licence="CC0-1.0", picture="grid.png")
    assert text.startswith("# small: a vae of 16 px\n") and "a" * 16 in text and "a" * 17 not in text
    assert "research" in section(text, "Intended use")
    assert section(text, "Data").splitlines() == [
        "- source: digits",
        "- images: 1,797",
        "- digest: `0123.dir`",
        "- licence: CC0-1.0",
    ]
    assert "| fd_classifier | 8.117 | [7.900, 8.321] | lower |" in section(text, "Figures")
    assert "| bits_per_dim | n/a | n/a | lower |" in section(text, "Figures")
    assert "2000 samples against 1600 real images, extractor classifier `eeeeeeee`" in section(text, "Figures")
    assert section(text, "Samples") == "![samples](grid.png)"
    assert "1.25% of the samples copy" in section(text, "Memorisation")
    assert section(text, "Health") == "- The variance of the samples is a tenth of the data's."
    assert section(text, "Cost") == "- seconds: 54.26"


def test_what_is_not_known_is_said() -> None:
    bare = made_report("small", {"fd_classifier": "nan"})
    text = model_card(ABOUT, bare, data=DATA, cost={})
    assert "- licence: not stated" in section(text, "Data")
    assert "| fd_classifier | nan | n/a | lower |" in section(text, "Figures")
    assert section(text, "Samples") == "No sample grid was kept."
    assert section(text, "Memorisation") == "Not measured: no images were held out to compare with."
    assert "## Health" not in text
    assert section(text, "Cost").startswith("Not known")


def test_the_same_facts_give_the_same_card() -> None:
    assert len({model_card(ABOUT, REPORT, data=DATA, cost={}) for _ in range(2)}) == 1


def test_a_name_from_outside_is_shown_as_it_is_and_does_nothing() -> None:
    nasty = "![p](http://evil.example/p.png)<script>\x1b[2J"
    text = model_card({**ABOUT, "name": nasty}, REPORT, data={**DATA, "source": nasty}, cost={}, licence=nasty)
    html = pytest.importorskip("markdown_it").MarkdownIt("commonmark").render(text)
    assert "<img" not in html and "<script" not in html and "href" not in html and "\x1b" not in html
    assert html.count("![p]") == 3
