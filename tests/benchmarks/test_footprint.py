"""benchmarks/footprint.py: rates and memory of models that are measured one process each."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.footprint import main

ROOT = Path(__file__).parents[2]

SETTINGS = """
models:
  small: {family: vae, image_size: 8, network: {latent_dim: 2, base_channels: 4}, training: {batch_size: 4}}
"""


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS)
    return path


PROGRAM = """
from benchmarks.footprint import peak
before = peak()
taken = bytearray(b"x") * (200 << 20)
del taken
print(peak() - before)
"""


@pytest.mark.slow
def test_the_peak_counts_memory_that_was_given_back() -> None:
    # in a process of its own: the tests before may have held more
    grown = subprocess.run([sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, cwd=ROOT)
    assert 200 <= int(grown.stdout) < 300


@pytest.mark.slow
def test_a_row_a_model(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(settings), "--steps", "1", "--images", "4"]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    found = re.fullmatch(r"\| small \| ([\d.,]+) \| (\d+) MB \(\+(\d+)\) \| ([\d.,]+) \| (\d+) MB \(\+(\d+)\) \|", row)
    assert found, row
    assert int(found[2]) > int(found[3]), "torch is more than what came after it"


def test_a_model_that_is_not_there(settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([str(settings), "--model", "large"])
    assert left.value.code == 2
    assert f"{settings} has no model large: one of small" in capsys.readouterr().err
