"""What stages and runs cost: kept whatever happens, summed by month, shown."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.costs import energy, ledger
from flows.costs.__main__ import main
from flows.costs.ledger import Cost, Line

NOW = datetime.now(UTC)


def keep(root: Path, stage: str = "", run: str = "", **about: object) -> None:
    cost = {name: about.pop(name) for name in ("seconds", "gpu_hours", "kwh") if name in about}
    ledger.keep(root, Line(**{"time": NOW, "run": run, "stage": stage, "cost": Cost(**cost)} | about))  # type: ignore[arg-type]


def test_a_stage_that_fails_is_kept_and_is_not_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ledger.RUN, "a-run")
    with ledger.recorded(tmp_path, "train@vae"):
        pass
    with pytest.raises(SystemExit), ledger.recorded(tmp_path, "train@vae"):
        raise SystemExit(143)  # as SIGTERM ends a training
    first, second = ledger.read(tmp_path)
    assert (first.stage, first.run, first.finished) == ("train@vae", "a-run", True)
    assert not second.finished
    assert ledger.last([first, second]) == {"train@vae": first.cost}


def test_a_stage_that_uses_a_gpu_is_told_its_hours_and_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch and NVML stand in for those of a machine with a GPU."""
    readings = iter([10.0, 10.5])
    clock = iter([0.0, 1800.0])
    monkeypatch.setattr(ledger, "counter", lambda: lambda: next(readings))
    monkeypatch.setattr(ledger.time, "monotonic", lambda: next(clock))
    monkeypatch.setitem(ledger.sys.modules, "torch", SimpleNamespace(cuda=SimpleNamespace(is_initialized=lambda: True)))
    with ledger.recorded(tmp_path, "train@vae"):
        pass
    (line,) = ledger.read(tmp_path)
    assert line.cost == Cost(seconds=1800.0, gpu_hours=0.5, kwh=0.5)


def test_on_a_machine_without_a_gpu_there_are_no_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert energy.devices() == [] and energy.counter()() is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert energy.devices() == []
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1, 3")
    assert energy.devices() == ["GPU-1", "3"]


def test_what_a_kill_has_cut_off_is_left_out(tmp_path: Path) -> None:
    keep(tmp_path, "compare", seconds=4.0)
    with (tmp_path / ledger.FILE).open("a") as file:
        file.write('{"time": "2026-1\n[]\n{}\n\x00\n')
    keep(tmp_path, "compare", seconds=5.0)
    assert [line.cost.seconds for line in ledger.read(tmp_path)] == [4.0, 5.0]
    assert ledger.read(tmp_path / "nowhere") == []


def test_a_run_counts_what_it_used_and_what_it_did_not_have_to_run(tmp_path: Path) -> None:
    keep(tmp_path, "train@vae", "before", seconds=100.0, gpu_hours=2.0)
    keep(tmp_path, "train@dcgan", "before", seconds=50.0, gpu_hours=1.0)
    keep(tmp_path, "gone", "before", seconds=7.0)
    keep(tmp_path, "train@dcgan", "now", seconds=60.0, gpu_hours=1.5)
    line = ledger.end_run(tmp_path, "now", 65.0, ["train@vae", "train@dcgan", "never"])
    assert line.cost == Cost(seconds=65.0, gpu_hours=1.5)
    assert line.saved == Cost(seconds=100.0, gpu_hours=2.0)
    assert ledger.read(tmp_path)[-1].saved == line.saved


def test_a_month_is_one_of_the_clock_on_the_wall(tmp_path: Path) -> None:
    first = datetime(2026, 11, 30, 23, 30, tzinfo=UTC)
    keep(tmp_path, "train@vae", time=first, seconds=1.0)
    lines = ledger.read(tmp_path)
    assert ledger.month(lines, "UTC", "2026-11") == lines and ledger.month(lines, "Europe/Berlin", "2026-12") == lines
    assert ledger.month(lines, "Europe/Berlin", "2026-11") == []


def test_the_command_shows_runs_and_the_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    keep(tmp_path, "train@vae", "one", seconds=3600.0, gpu_hours=1.0, kwh=0.4)
    keep(tmp_path, run="one", seconds=3700.0, gpu_hours=1.0, kwh=0.4, saved=Cost(seconds=120.0))
    keep(tmp_path, "evaluate@vae", seconds=60.0)
    keep(tmp_path, "train@vae", seconds=9.0, time=NOW - timedelta(days=70))
    assert main([]) == 0
    told = capsys.readouterr().out.splitlines()
    assert told[1].split()[2:] == ["1", "h", "01", "min", "1", "1.0", "0.4", "2", "min", "00", "s"]
    assert told[2].startswith("by hand, or not finished")
    assert "1 h 01 min of stages, 1 GPU hours, 0.4 kWh; the cache saved 2 min 00 s" in told[-2]
    with pytest.raises(SystemExit, match="2"):
        main(["--month", "November"])
    assert capsys.readouterr().err == "error: --month November: write a year and a month, as 2026-11\n"
