import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genmodel.evaluation.chart import Point, draw


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


def test_names_give_way_to_each_other() -> None:
    svg = draw([point(f"model-{place}", 100, 5) for place in range(6)], "seconds", "fd")
    names = [text for text in ET.fromstring(svg).iter("text") if text.attrib.get("class") == "name"]
    places = {(name.attrib["x"], name.attrib["y"]) for name in names}
    assert len(names) == len(places) and 2 <= len(names) <= 4, "the others are told when they are pointed at"
