"""Stacked MNIST: what is counted, and that a run is counted as it goes on."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from benchmarks import stacked_mnist
from genmodel.evaluation.extractors.classifier import Classifier


class Reader(Classifier):
    """Names the digit that an image's brightness says: 0 for black, 9 for 225; unsure of what lies between two."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        level = images.double().mean(dim=(1, 2, 3)) / 25
        return images, -20 * (level[:, None] - torch.arange(10)).abs()


def test_modes_are_told_apart_and_noise_is_not_surely_one() -> None:
    images = torch.zeros(3, 32, 32, 3, dtype=torch.uint8)
    images[0] = torch.tensor([100, 50, 25], dtype=torch.uint8)
    images[1] = torch.tensor([225, 0, 12], dtype=torch.uint8)
    found, sure = stacked_mnist.numbers(images, Reader())
    assert found.tolist() == [421, 900, 0]
    assert sure.tolist() == [True, False, True]


@pytest.mark.slow
def test_it_is_counted_as_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = load_digits()
    images = np.pad((digits.images[:200] * 15.9).astype(np.uint8), ((0, 0), (10, 10), (10, 10)))
    (tmp_path / "t-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 2051, 200, 28, 28) + images.tobytes())
    labels = digits.target[:200].astype(np.uint8)
    (tmp_path / "t-labels-idx1-ubyte").write_bytes(struct.pack(">II", 2049, 200) + labels.tobytes())
    monkeypatch.setattr(stacked_mnist, "SAMPLES", 20)
    monkeypatch.setattr(stacked_mnist, "STACKED", 300)
    words = [str(tmp_path), "--work", str(tmp_path / "work"), "--images", "256", "--classifier-images", "64"]
    assert stacked_mnist.main([*words, "--families", "dcgan"]) == 0
    told = [line for line in capsys.readouterr().out.splitlines() if "of 1,000 modes" in line]
    assert re.match(r"dcgan, the end: 256 images, \d+ of 1,000 modes, \d+ of them surely, KL \d\.\d{3}$", told[-1])
    assert len(told) >= 3
