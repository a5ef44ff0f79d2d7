"""A project with versioned data and two tiny models, for tests of its stages; its fixtures are in conftest.py."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows import stages

DATA_DVC = "outs:\n- md5: 0123456789abcdef0123456789abcdef.dir\n  path: data\n"
PARAMS = """
models:
  small: {VAE, network: {latent_dim: 4, base_channels: 4, learning_rate: 0.01}}
  large: {VAE, network: {latent_dim: 4, base_channels: 8, learning_rate: 0.01}}
evaluation: {samples: 16, extractor: pixels, image_size: 8}
gate: {intervals: false, min_precision: 0, min_recall: 0, max_copied: 1}
""".replace("VAE", "family: vae, image_size: 8, training: {images: 8000}")  # long enough to be found healthy

Stage = Callable[..., str]


def run(*lines: str) -> None:
    for line in lines:
        assert stages.main(line.split()) == 0


def change(project: Path, old: str, new: str) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new))


def decision(project: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((project / "decision.json").read_text())
    return told
