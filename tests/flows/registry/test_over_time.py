"""The champion's figure by day: what the page and the rows tell of a ledger."""

import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows.registry.console import row
from flows.registry.history import over_time, timeline
from flows.telling import outcome


def event(hour: int, outcome: str, version: int, value: float | str, champion: int | None, before: int | None) -> Any:
    """A decision about `version`, with an interval of 1 up and down; `champion` is the one after it."""
    time = datetime.fromisoformat("2026-03-01T03:00:00+00:00") + timedelta(hours=hour)

    def state(number: int | None) -> dict[str, str] | None:
        return None if number is None else {"version": str(number), "weights": f"w{number}"}

    def brief(number: int, value: float | str) -> dict[str, Any]:
        interval = [value - 1, value + 1] if isinstance(value, float) else None
        return {"name": f"model-{number}", "weights": f"w{number}", "value": value, "interval": interval}

    rival = before if before is not None and before != version else None
    decision = {
        "outcome": outcome,
        "reasons": ["Because <b>."],
        "figure": "fd_toy",
        "judged_by": "toys",
        "candidate": brief(version, value),
        "champion": brief(rival, 10.0 - rival) if rival else None,
    }
    told = {"id": f"{hour}", "time": time.isoformat(timespec="milliseconds"), "kind": "promotion", "decision": decision}
    return {**told, "version": str(version), "before": state(before), "after": {"champion": state(champion)}}


HISTORY = [
    event(0, "promote", 1, 9.5, 1, None),
    event(24, "reject", 2, 14.0, 1, 1),
    event(25, "inconclusive", 3, 8.8, 1, 1),
    event(48, "pending", 4, 6.0, 1, 1),
    event(72, "promote", 5, 5.0, 5, 1),
    {**event(96, "promote", 1, 0.0, 1, 5), "kind": "rollback", "reason": "odd eyes", "decision": None},
]


def test_the_champion_has_its_last_figure_of_each_day() -> None:
    told = [(day.row()["day"], day.version, day.value, day.low, day.high) for day in over_time.days(HISTORY)]
    assert told == [
        ("2026-03-01", "1", 9.5, 8.5, 10.5),
        ("2026-03-02", "1", 9.0, 8.0, 10.0),
        ("2026-03-03", "1", 9.0, 8.0, 10.0),
        ("2026-03-04", "5", 5.0, 4.0, 6.0),
    ]


def test_the_page_shows_every_decision_and_nothing_that_acts(tmp_path: Path) -> None:
    over_time.write(HISTORY, tmp_path)
    page = (tmp_path / "champion.html").read_text()
    tags: list[tuple[str, str]] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: Any) -> None:
            tags.append((tag, dict(attributes).get("class") or ""))

    Reader().feed(page)
    assert tags.count(("g", "day")) == 4 and tags.count(("g", "change")) == 3
    assert [kind for tag, kind in tags if tag == "circle" and kind] == [
        "other reject",
        "other inconclusive",
        "other pending",
    ]
    assert sum(tag == "tr" for tag, _ in tags) == 2 + 4 + len(HISTORY)
    assert "Because &lt;b&gt;." in page and "odd eyes" in page and ("b", "") not in tags
    before = page
    over_time.write(HISTORY, tmp_path)
    assert (tmp_path / "champion.html").read_text() == before
    shown = outcome.champion_days(tmp_path)
    last = {"day": "2026-03-04", "champion": 5, "model": "model-5", "figure": "fd_toy", "value": 5, "low": 4, "high": 6}
    assert shown[0] == last


def test_a_history_without_a_champion_or_with_another_figure_is_drawn_too(tmp_path: Path) -> None:
    over_time.write([], tmp_path)
    assert "no champion yet" in (tmp_path / "champion.html").read_text() and outcome.champion_days(tmp_path) == []
    other = event(120, "promote", 6, 700.0, 6, 1)
    other["decision"]["figure"] = "fd_other"
    over_time.write([*HISTORY, other], tmp_path)
    page = (tmp_path / "champion.html").read_text()
    assert page.count('<g class="day">') == 1 and "4 days judged by another figure" in page


@pytest.mark.parametrize(("place", "what"), [(0, "promote"), (5, "rollback")])
def test_history_and_page_call_a_decision_the_same(place: int, what: str) -> None:
    assert over_time.what(HISTORY[place]) == row(HISTORY[place])[1] == what


def test_a_date_stands_where_its_day_begins() -> None:
    day = datetime(2026, 3, 5, 6, tzinfo=UTC)
    svg = timeline.draw([timeline.Point(day, "1", 1.0, 0.5, 1.5)], [], "fd_toy")
    dates = re.findall(r'class="tick" x="([\d.]+)" y="322"[^>]*>([^<]+)<', svg)
    (point,) = re.findall(r'<circle cx="([\d.]+)"', svg)
    quarter = (720 - 64 - 20 - 20) / 4  # the plot is 24 hours wide, with the point in its middle
    assert [name for _, name in dates] == ["Mar 05"]
    assert float(dates[0][0]) == pytest.approx(float(point) - quarter, abs=0.1)
