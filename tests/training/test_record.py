from pathlib import Path

import hypothesis.strategies as st
from hypothesis import given

from genmodel.training.record import Record, sample_moments


def test_rows_that_are_there_already_are_not_written_again(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add(1, 10, {"loss/x": 1.0})
    record.add(2, 20, {"loss/x": 0.5})
    before = record.metrics.read_bytes()
    resumed = Record(tmp_path)
    resumed.add(2, 20, {"loss/x": 0.5})
    assert record.metrics.read_bytes() == before
    resumed.add(3, 30, {"loss/x": 0.25})
    assert [row["images_seen"] for row in resumed.rows()] == [10, 20, 30]


def test_a_line_that_a_kill_cut_short_is_written_again(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add(1, 10, {"loss/x": 1.0})
    whole = record.metrics.read_bytes()
    record.add(2, 20, {"loss/x": 0.5})
    record.metrics.write_bytes(record.metrics.read_bytes()[:-7])
    resumed = Record(tmp_path)
    assert resumed.metrics.read_bytes() == whole
    resumed.add(2, 20, {"loss/x": 0.5})
    assert resumed.rows()[-1]["metrics"] == {"loss/x": 0.5}


def test_history_holds_no_times(tmp_path: Path) -> None:
    record = Record(tmp_path)
    record.add(1, 10, {"loss/x": 1 / 3, "throughput/images_per_second": 1234.5})
    assert record.history() == "images_seen,step,loss/x\n10,1,0.333333\n"


@given(st.integers(1, 10**7), st.integers(1, 512))
def test_moments_are_steps_and_hold_the_start_and_the_end(images: int, batch_size: int) -> None:
    moments = sample_moments(images, batch_size)
    assert 0 in moments
    assert max(moments) == -(-images // batch_size) * batch_size
    assert all(moment % batch_size == 0 for moment in moments)
    assert len(moments) <= 12


def test_models_of_unlike_budgets_are_drawn_at_the_same_moments() -> None:
    short, long = sample_moments(160_000, 64), sample_moments(200_000, 64)
    assert short - {160_000} == long - {200_000}
    assert {0, 256, 1024, 131_072} < short
