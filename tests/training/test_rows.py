"""No flipped bit of a row of the record passes as another value."""

import math

import pytest

from genmodel.training.rows import as_line, from_line

ROW = {"step": 3, "images_seen": 192, "time_ms": 1_700_000_000_123, "order": "ab12", "metrics": {"loss/x": 0.12345}}


def test_a_row_comes_back_and_so_does_one_of_before_checksums() -> None:
    assert from_line(as_line(ROW)) == ROW
    assert from_line('{"images_seen": 64, "step": 1, "time_ms": 5, "metrics": {}}')["step"] == 1
    assert math.isnan(from_line(as_line({**ROW, "metrics": {"loss/x": math.nan}}))["metrics"]["loss/x"])


def test_no_flipped_bit_changes_a_row() -> None:
    line = as_line(ROW).encode()
    for bit in range(8 * len(line)):
        flipped = bytearray(line)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            assert from_line(bytes(flipped)) == ROW, bit
        except (ValueError, TypeError):
            continue


def test_a_line_that_is_no_row_is_refused() -> None:
    with pytest.raises(ValueError, match="not a row"):
        from_line("[1, 2]")
