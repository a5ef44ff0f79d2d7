import math
import sys
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from PIL import Image, ImageColor

from genmodel.showing.curves import BROKEN, COLOURS, curves_of, write_curves

CALM = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]


def rows(values: dict[str, list[float]], every: int = 1_000) -> list[dict]:
    """Rows as in metrics.jsonl from the values of each metric."""
    moments = zip(*values.values(), strict=True)
    return [
        {"images_seen": every * step, "step": step, "metrics": dict(zip(values, held, strict=True))}
        for step, held in enumerate(moments, 1)
    ]


def drawn(folder: Path, values: dict[str, list[float]]) -> Image.Image:
    assert write_curves(rows(values), folder / "curves.png")
    with Image.open(folder / "curves.png") as picture:
        return picture.convert("RGB")


def where(picture: Image.Image, colour: str) -> np.ndarray:
    """The [x, y] of the pixels of very nearly a colour, below the first panel's legend."""
    apart = np.abs(np.asarray(picture).astype(int) - ImageColor.getrgb(colour)).max(axis=2)
    y, x = np.nonzero(apart < 40)
    return np.stack([x, y], axis=1)[y > 40]


@pytest.mark.slow
def test_a_panel_for_each_group_that_the_rows_hold(tmp_path: Path) -> None:
    losses = {"loss/a": [1.0, 2.0], "loss/b": [2.0, 1.0]}
    one = drawn(tmp_path, losses | {"throughput/images_per_second": [5.0, 5.0]})
    three = drawn(tmp_path, losses | {"score/real": [0.5, 0.6], "gradient/a": [3.0, 4.0]})
    assert three.size == (one.width, 3 * one.height)
    assert len(where(one, COLOURS[1])) and max(where(three, COLOURS[0])[:, 1]) > 2.2 * one.height
    assert curves_of(rows(losses), "loss") == {"a": [(1000, 1.0), (2000, 2.0)], "b": [(1000, 2.0), (2000, 1.0)]}


@pytest.mark.parametrize("sick", [math.nan, math.inf, -math.inf])
def test_where_values_are_no_numbers_any_more_is_marked(tmp_path: Path, sick: float) -> None:
    assert not len(where(drawn(tmp_path, {"loss/x": [1.0, 2.0, 1.5, 1.8]}), BROKEN))
    picture = drawn(tmp_path, {"loss/x": [1.0, 2.0, 1.5, 1.0, sick, sick]})
    mark = where(picture, BROKEN)
    assert len(set(mark[:, 0])) <= 3 and len(mark) > picture.height / 2, "an upright line"
    assert max(where(picture, COLOURS[0])[:, 0]) < min(mark[:, 0]), "the curve ends before"


def test_a_loss_that_explodes_hides_no_other(tmp_path: Path) -> None:
    def height(values: dict[str, list[float]]) -> int:
        return int(np.ptp(where(drawn(tmp_path, values), COLOURS[0])[:, 1]))

    assert height({"loss/calm": CALM, "loss/wild": [*CALM[:6], -1e4, -1e5]}) > 10
    assert height({"loss/calm": CALM}) > 100


def test_a_single_row_no_row_and_nothing_finite(tmp_path: Path) -> None:
    assert len(where(drawn(tmp_path, {"loss/x": [1.5]}), COLOURS[0])), "a dot"
    assert drawn(tmp_path, {}).width == drawn(tmp_path, {"loss/x": [1.5]}).width
    picture = drawn(tmp_path, {"loss/x": [math.nan]})
    assert len(where(picture, BROKEN)) and not len(where(picture, COLOURS[0]))


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(values=st.lists(st.floats(width=32), min_size=1, max_size=12))
def test_any_float32_can_be_drawn(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    drawn(tmp_path_factory.mktemp("any"), {"loss/x": values})


def test_without_matplotlib_there_is_no_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert not write_curves(rows({"loss/x": [1.0]}), tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
