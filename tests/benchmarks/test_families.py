"""The benchmark of steps runs for every family, its plain loop included."""

import pytest

from benchmarks import families
from genmodel.models.families import FAMILIES, load_family


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_for_every_family(family: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "--family",
        family,
        "--precision",
        "fp32",
        "--size",
        "16",
        "--batch",
        "8",
        "--steps",
        "1",
        "--repeats",
        "2",
    ]
    if hasattr(load_family(family).Config, "base_channels"):  # R3GAN's own steps take tens of seconds
        words += ["--set", "base_channels=16"]
    assert families.main(words) == 0
    *_, rule, row = capsys.readouterr().out.splitlines()
    assert rule.startswith("| ---") and row.startswith(f"| {family}, fp32, ") and row.count("|") == 6
    ours, theirs = (float(row.split("|")[place].replace(",", "")) for place in (2, 4))
    assert ours > 0 and theirs > 0
