"""The comparison with the tutorial's network goes on where it was stopped, and keeps every figure that it has."""

from pathlib import Path

import pytest
from torch import Tensor

from benchmarks import plain, quality
from genmodel.files import durable
from tests.blocks import write_block


def run(out: Path) -> None:
    words = ["nowhere", "--out", str(out), "--images", "256", "--seeds", "0", "--samples", "16", "--threads", "1"]
    assert quality.main([*words, "--classifier-images", "64", "--width", "4"]) == 0


@pytest.mark.slow
def test_it_goes_on_where_it_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quality, "SAVED_EVERY", 1)
    step, made = plain.Networks.step, 0

    def stopped(networks: plain.Networks, real: Tensor) -> tuple[float, float]:
        nonlocal made
        made += 1
        if made == 4:
            raise KeyboardInterrupt
        return step(networks, real)

    for folder in ("whole", "stopped"):
        write_block(tmp_path / folder / "data", 32, 3)
    run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        patch.setattr(plain.Networks, "step", stopped)
        with pytest.raises(SystemExit):
            run(tmp_path / "stopped")
    run(tmp_path / "stopped")
    weights = [durable.digest_file(next((tmp_path / f).glob("tutorial*"))) for f in ("whole", "stopped")]
    figures = [(tmp_path / f / "figures.jsonl").read_text() for f in ("whole", "stopped")]
    assert weights[0] == weights[1] and figures[0] == figures[1] and made == 4

    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setattr(plain.Networks, "step", None)  # nothing is trained again
        patch.setattr(quality.cli, "main", None)
        run(tmp_path / "stopped")
    *_, tutorial, genmodel = capsys.readouterr().out.splitlines()
    assert tutorial.startswith("tutorial mean ") and genmodel.startswith("genmodel mean ")
    assert (tmp_path / "stopped" / "figures.jsonl").read_text() == figures[1]
