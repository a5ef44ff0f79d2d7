"""The notebooks run in their order, in an empty folder, and what they keep is what they show."""

from pathlib import Path

import pytest

from flows.settings import Settings
from tests.docs.commands import ROOT
from tests.flows.notebooks import Output, cells, run

NOTEBOOKS = [ROOT / "docs/notebooks" / name for name in ("own-photos.ipynb", "comparing.ipynb")]


def kinds(outputs: list[Output]) -> list[str]:
    return [kind for each in outputs for kind in each.get("data", {"printed": ""})]


@pytest.mark.slow
def test_they_show_what_they_keep(settings: Settings, place: Path) -> None:
    for path in NOTEBOOKS:
        for cell, outputs in zip(cells(path), run(path), strict=True):
            assert kinds(outputs) == kinds(cell["outputs"]), "".join(cell["source"])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_they_keep_is_small_and_of_no_machine(path: Path) -> None:
    text = path.read_text()
    assert len(text) < 100_000 and any(cell["outputs"] for cell in cells(path))
    assert "/tmp" not in text and "/home" not in text and "/work" not in text


def test_all_are_run() -> None:
    assert sorted(NOTEBOOKS) == sorted((ROOT / "docs/notebooks").iterdir())
