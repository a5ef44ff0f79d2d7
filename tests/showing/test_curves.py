import math

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from PIL import Image, ImageColor

from genmodel.showing.curves import _LEFT, _PANEL, _RIGHT, BROKEN, COLOURS, _axis, draw_curves, round_numbers

WIDTH = 900


def rows(values: dict[str, list[float]], every: int = 1_000) -> list[dict]:
    """Rows as in metrics.jsonl from the values of each metric."""
    moments = zip(*values.values(), strict=True)
    return [
        {"images_seen": every * step, "step": step, "metrics": dict(zip(values, held, strict=True))}
        for step, held in enumerate(moments, 1)
    ]


def where(picture: Image.Image, colour: str, top: int = 0) -> list[tuple[int, int]]:
    """The pixels of very nearly a colour below the heading of the panel that begins at `top`."""
    wanted = ImageColor.getrgb(colour)
    plot = [(x, y) for x in range(_LEFT, picture.width - _RIGHT + 4) for y in range(top + 41, top + _PANEL - 29)]
    return [spot for spot in plot if max(abs(a - b) for a, b in zip(picture.getpixel(spot), wanted, strict=True)) < 60]


def test_a_panel_for_each_group_that_the_rows_hold() -> None:
    losses = {"loss/a": [1.0, 2.0], "loss/b": [2.0, 1.0]}
    one = draw_curves(rows(losses | {"throughput/images_per_second": [5.0, 5.0]}))
    three = draw_curves(rows(losses | {"score/real": [0.5, 0.6], "gradient/a": [3.0, 4.0]}))
    assert one.size == (WIDTH, _PANEL + 22)
    assert three.size == (WIDTH, 3 * _PANEL + 22)
    assert draw_curves(rows(losses), width=500).width == 500
    assert where(three, COLOURS[0], top=2 * _PANEL) and where(one, COLOURS[1])


def test_a_curve_goes_where_its_values_are() -> None:
    picture = draw_curves(rows({"loss/rising": [0.0, 1.0, 2.0, 3.0, 4.0]}))
    line = where(picture, COLOURS[0])
    (left, low), (right, high) = min(line), max(line)
    span = WIDTH - _LEFT - _RIGHT
    assert (left - _LEFT) / span == pytest.approx(1 / 5, abs=0.01), "the first row is at a fifth of the images"
    assert (right - _LEFT) / span == pytest.approx(1, abs=0.01)
    plot_bottom, plot_height = _PANEL - 30, _PANEL - 70
    assert (plot_bottom - low) / plot_height == pytest.approx(0.05 / 1.1, abs=0.02)
    assert (plot_bottom - high) / plot_height == pytest.approx(1.05 / 1.1, abs=0.02)


@pytest.mark.parametrize("sick", [math.nan, math.inf, -math.inf])
def test_where_values_are_no_numbers_any_more_is_marked(sick: float) -> None:
    whole = rows({"loss/x": [1.0, 2.0, 1.5, 1.8]})
    assert not where(draw_curves(whole), BROKEN)
    picture = draw_curves(rows({"loss/x": [1.0, 2.0, sick, sick]}))
    upright = [x for x, y in where(picture, BROKEN) if y > 100]
    assert (sum(upright) / len(upright) - _LEFT) / (WIDTH - _LEFT - _RIGHT) == pytest.approx(3 / 4, abs=0.01)
    assert max(where(picture, COLOURS[0]))[0] < min(upright), "the curve ends before"


def test_a_loss_that_explodes_hides_no_other() -> None:
    calm = [1.0, 2.0, 1.0, 2.0, 1.0, 2.0, 1.0, 2.0]
    picture = draw_curves(rows({"loss/calm": calm, "loss/wild": [*calm[:6], -1e4, -1e30]}))
    heights = {y for x, y in where(picture, COLOURS[0]) if x > WIDTH / 2}
    assert max(heights) < 90, "above, where it can be seen"
    height, ticks = _axis([*calm, -1e30])
    assert height(2.0) - height(1.0) > 100 * (1 / 1e30)
    assert 3 <= len(ticks) <= 12 and 0.0 in ticks


def test_a_single_row_no_row_and_nothing_finite() -> None:
    assert where(draw_curves(rows({"loss/x": [1.5]})), COLOURS[0]), "a dot"
    assert draw_curves([]).width == WIDTH
    picture = draw_curves(rows({"loss/x": [math.nan]}))
    assert where(picture, BROKEN) and not where(picture, COLOURS[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(width=32), min_size=1, max_size=12))
def test_any_float32_can_be_drawn(values: list[float]) -> None:
    assert draw_curves(rows({"loss/x": values}), width=300).width == 300


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 10))
def test_ticks_are_few_and_in_range(low: float, span: float, most: int) -> None:
    ticks = round_numbers(low, low + span, most)
    assert len(ticks) <= most + 1
    assert all(low - span * 1e-6 <= tick <= low + span * (1 + 1e-6) for tick in ticks)


def test_ticks_worked_by_hand() -> None:
    assert round_numbers(0, 160_000, 4) == [0, 50_000, 100_000, 150_000]
    assert round_numbers(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert round_numbers(-3, 3, 3) == [-2, 0, 2]
