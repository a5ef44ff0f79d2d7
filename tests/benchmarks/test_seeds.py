"""Figures over several seeds: a training is not repeated where its figures are kept, and the spread is told."""

from pathlib import Path

import pytest
import yaml

from benchmarks import seeds
from tests.blocks import write_block


@pytest.mark.slow
def test_each_seed_is_trained_once_and_the_median_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_block(tmp_path / "data", 16, 1)
    training = {"images": 64, "batch_size": 16, "threads": 1}
    model = {"family": "dcgan", "image_size": 16, "network": {"base_channels": 4}, "training": training}
    judging = {"image_size": 16, "samples": 16, "extractor": "pixels", "threads": 1}
    preset = {"models": {"small": model}, "evaluation": judging, "gate": {"margin": 0.1}}
    (tmp_path / "preset.yaml").write_text(yaml.safe_dump(preset))
    figures = ["--figures", "fd_pixels,recall"]
    words = [
        str(tmp_path / "preset.yaml"),
        "--data",
        str(tmp_path / "data"),
        "--work",
        str(tmp_path / "work"),
        *figures,
    ]

    assert seeds.main([*words, "--seeds", "0,1,2"]) == 0
    first = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| small")]
    assert len(first) == 4
    values = [float(line.split("|")[3]) for line in first[:3]]
    assert len(set(values)) == 3  # a seed changes the model
    low, middle, high = sorted(values)
    assert f"{middle:.4g} ({low:.4g} to {high:.4g})" in first[3]

    monkeypatch.setattr(seeds, "train", None)
    assert seeds.main([*words, "--seeds", "0,1,2"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("| small")] == first
