from pathlib import Path

from genmodel.training.record import Record


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
    timed = {"throughput/images_per_second": 1234.5, "time/data": 0.1, "gpu/memory_gib": 2.0, "gpu/energy_kwh": 0.5}
    record.add(1, 10, {"loss/x": 1 / 3} | timed)
    assert record.history() == "images_seen,step,loss/x\n10,1,0.333333\n"
