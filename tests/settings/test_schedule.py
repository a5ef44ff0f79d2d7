"""Schedules: exact at both ends, between them meanwhile, never back."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genmodel.errors import ConfigError
from genmodel.settings.schedule import Schedule, value_at

VALUES = st.floats(-1e12, 1e12)
IMAGES = st.integers(0, 10**10)
SCHEDULES = st.builds(Schedule, VALUES, VALUES, st.integers(1, 10**10), st.sampled_from(["cosine", "linear"]))


@given(SCHEDULES, IMAGES)
def test_both_ends_are_exact_and_the_end_stays(schedule: Schedule, more: int) -> None:
    assert schedule.at(0) == schedule.start
    assert schedule.at(schedule.over + more) == schedule.end


@given(SCHEDULES, IMAGES, IMAGES)
def test_it_stays_between_its_ends_and_never_goes_back(schedule: Schedule, one: int, other: int) -> None:
    assert schedule.end is not None
    low, high = sorted((schedule.start, schedule.end))
    early, late = schedule.at(min(one, other)), schedule.at(max(one, other))
    assert low <= early <= high and low <= late <= high
    slack = 4 * math.ulp(max(abs(low), abs(high)))
    assert early <= late + slack if schedule.start <= schedule.end else early >= late - slack


@given(VALUES, VALUES, st.integers(1, 10**6))
def test_half_way_both_shapes_are_in_the_middle(start: float, end: float, half: int) -> None:
    for shape in ("cosine", "linear"):
        middle = Schedule(start, end, 2 * half, shape).at(half)  # type: ignore[arg-type]
        assert middle == pytest.approx((start + end) / 2, rel=1e-9, abs=1e-3)


def test_the_shapes_are_those_of_the_papers() -> None:
    assert Schedule(1.0, 0.0, 4, "linear").at(1) == 0.75
    for seen in range(9):  # eq. 5 with eta_min = 2, eta_max = 10, T_i = 8
        assert Schedule(10.0, 2.0, 8).at(seen) == pytest.approx(2 + 0.5 * 8 * (1 + math.cos(math.pi * seen / 8)))


@given(VALUES, IMAGES)
def test_without_an_end_and_as_a_plain_number_it_is_constant(value: float, seen: int) -> None:
    assert Schedule(value).at(seen) == value_at(Schedule(value), seen) == value_at(value, seen) == value


@pytest.mark.parametrize(("end", "over"), [(1.0, 0), (None, 5), (1.0, -1), (None, -1)])
def test_an_end_without_a_length_is_refused(end: float | None, over: int) -> None:
    with pytest.raises(ConfigError, match="both end and over"):
        Schedule(0.0, end, over)
