import re

import pytest

from benchmarks.cached_sampling import main


def test_it_measures_both_in_turns(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["base_channels=8", "blocks=1", "halvings=1"]
    settings = [word for each in words for word in ("--set", each)]
    assert main(["--size", "16", "--images", "4", "--repeats", "1", *settings]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert row.startswith("| pixelcnn, 16 px, 4 images at once |")
    found = re.search(r"\| (\d+\.\d+)x", row)
    assert found and float(found[1]) > 1
