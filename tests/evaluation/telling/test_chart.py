import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmodel.evaluation.telling.chart import NAMED, Point, draw


def point(name: str, cost: float, distance: float, family: str = "dcgan") -> Point:
    return Point(name, family, cost, distance, distance / 1.2, distance * 1.1)


def circles(svg: str) -> dict[str, tuple[float, float]]:
    """Place of each dot by the model's name."""
    found = {}
    for group in ET.fromstring(svg).iter("g"):
        title, circle = group.find("title"), group.find("circle")
        assert title is not None and title.text and circle is not None
        found[title.text.split()[0]] = (float(circle.attrib["cx"]), float(circle.attrib["cy"]))
    return found


def test_cheaper_is_left_and_better_is_low_on_equal_factors() -> None:
    svg = draw([point("a", 10, 4), point("b", 100, 8), point("c", 1000, 16, "vae")], "seconds", "fd")
    places = circles(svg)
    for axis, sign in ((0, 1), (1, -1)):
        a, b, c = (places[name][axis] * sign for name in "abc")
        assert a < b < c and b - a == pytest.approx(c - b, abs=0.2)
    assert len(set(re.findall(r"color: (#\w+)", svg))) == 2
    assert {"10", "100", "1,000"} <= {text.text for text in ET.fromstring(svg).iter("text")}


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(1e-3, 1e9), st.floats(1e-6, 1e6)), min_size=1, max_size=12))
def test_everything_lies_in_the_picture_and_both_axes_have_numbers(values: list[tuple[float, float]]) -> None:
    points = [point(f"<m{place}&", *value) for place, value in enumerate(values)]
    root = ET.fromstring(draw(points, "seconds & more", "fd"))
    assert len(list(root.iter("circle"))) == len(points)
    for mark in [*root.iter("circle"), *root.iter("text"), *root.iter("line")]:
        for name, value in mark.attrib.items():
            if name in {"cx", "x", "x1", "x2"}:
                assert 0 <= float(value) <= 600
            if name in {"cy", "y", "y1", "y2"}:
                assert 0 <= float(value) <= 400
    ticks = [text for text in root.iter("text") if text.attrib.get("class") == "tick"]
    for anchor in ("middle", "end"):
        assert len([tick for tick in ticks if tick.attrib["text-anchor"] == anchor]) >= 2


def boxes(svg: str) -> dict[str, tuple[float, float, float, float]]:
    """left, top, right, bottom of each name, by 8.2 pixels a letter and 15 a line."""
    names = [text for text in ET.fromstring(svg).iter("text") if text.attrib.get("class") == "name"]
    found = {}
    for name in names:
        x, y = float(name.attrib["x"]), float(name.attrib["y"])
        found[str(name.text)] = (x, y - 12, x + 8.2 * len(str(name.text)), y + 3)
    return found


@pytest.mark.parametrize("apart", [0.0, 0.001, 0.05])
@pytest.mark.parametrize("name", ["m{}", "dcgan-base-channels-{}"])
def test_twelve_models_however_near_have_names_that_do_not_overlap(apart: float, name: str) -> None:
    points = [point(name.format(k), 100 * (1 + apart * k), 5 * (1 + apart * (k % 3))) for k in range(12)]
    found = boxes(draw(points, "seconds", "fd"))
    assert len(found) == 12
    for mine, (left, top, right, bottom) in found.items():
        assert left >= 72 and right <= 600 and top >= 0 and bottom <= 400
        for theirs, other in found.items():
            assert mine == theirs or right < other[0] or other[2] < left or bottom < other[1] or other[3] < top
    assert "leader" in draw(points, "seconds", "fd"), "a name far from its dot is tied to it"


def test_the_winners_name_is_never_hidden() -> None:
    crowd = [point(f"model-{k}", 100 + k % 25 * 40, 5 + k // 25) for k in range(500)]
    found = boxes(draw([*crowd, point("the-winner" + "-long" * 20, 500, 4.9)], "seconds", "fd"))
    assert len(found) <= NAMED and any(name.startswith("the-winner") for name in found)


def test_the_champion_is_marked_and_named_wherever_it_ranks_and_nothing_is_drawn_over_a_name() -> None:
    crowd = [point(f"model-{k}", 100 + k % 5, 5 + k / 100) for k in range(60)]
    svg = draw([*crowd, replace(point("last", 101, 9), is_champion=True)], "seconds", "fd")
    marks = [mark for mark in ET.fromstring(svg).iter() if mark.attrib.get("class") in ("model", "champion", "name")]
    kinds = [mark.attrib["class"] for mark in marks]
    assert kinds == ["model"] * 60 + ["champion"] + ["name"] * NAMED
    assert marks[-1].text == "★ last", "drawn last, so that no other name covers it"
