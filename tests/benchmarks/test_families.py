"""The benchmark of steps has a row for every model of a settings file, of the plain loop, too."""

from pathlib import Path

import pytest

from benchmarks import families
from genmodel.params import model_names

PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.mark.slow
def test_a_row_for_every_model_of_the_demo(capsys: pytest.CaptureFixture[str]) -> None:
    assert families.main([str(PARAMS), "--precision", "fp32", "--steps", "1", "--repeats", "2", "--threads", "1"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if ", fp32, " in line]
    assert [row.split()[1].rstrip(",") for row in rows] == model_names(PARAMS)
    for row in rows:
        ours, theirs = (float(row.split("|")[place].replace(",", "")) for place in (2, 4))
        assert row.count("|") == 6 and ours > 0 and theirs > 0
