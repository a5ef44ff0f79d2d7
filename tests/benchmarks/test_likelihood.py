"""The table of bits per colour value: each figure in its column, all of the same held-out images."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import likelihood
from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.evaluation.extractors.features import held_out_rows
from genmodel.evaluation.figures import held_out
from genmodel.models.abilities import Bounds, Likelihood, Weighted
from genmodel.sampling.load import load_model
from tests.blocks import write_block

pytestmark = pytest.mark.usefixtures("toys")
TOY = ["image_size=8", "images=64", "batch_size=32", "network.latent_dim=4", "base_channels=4", "log_every=32"]
BOTH = ["--precision", "fp32", "bf16"]
Say = pytest.CaptureFixture[str]


def train(family: str, block: Block) -> Path:
    settings = TOY if family == "vae" else [setting for setting in TOY if "=4" not in setting]
    words = [word for setting in settings for word in ("--set", setting)]
    assert main(["train", family, "--data", str(block.path), "--out", f"models/{family}", *words]) == 0
    return Path("models") / family


def test_each_figure_has_its_column(block: Block, place: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    vae, exact = train("vae", block), train("autoregressive", block)
    precisions = []

    def watched(*arguments: Any) -> Any:
        precisions.append((torch.ones(1, 1) @ torch.ones(1, 1)).dtype)
        return held_out.abilities_measured(*arguments)

    monkeypatch.setattr(likelihood, "abilities_measured", watched)
    capsys.readouterr()
    assert likelihood.main([str(block.path), "--models", str(vae), str(exact), "--samples", "5", *BOTH]) == 0
    head, rule, *lines = capsys.readouterr().out.strip().splitlines()
    rows = held_out_rows(block, 2000)
    assert head == f"| data, 8 px, {len(rows)} held-out images | one sample | 5 samples | exact |"
    assert rule.count("|") == head.count("|") == 5
    cells = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:5]] for line in lines}
    assert cells["uniform"] == ["", "", "8.000 ± 0.000"]
    for name in ("PNG", "lossless WebP"):
        whole, bare = (float(cells[f"{name}, {part}"][2].split()[0]) for part in ("the file", "without headers"))
        assert whole > bare > 0
    images = torch.from_numpy(block.gather(8, rows))
    labels = torch.from_numpy(block.labels[rows]).long()
    first, weighted = (load_model(folder)[0] for folder in (vae, exact))
    assert isinstance(first, Bounds) and isinstance(first, Weighted) and isinstance(weighted, Likelihood)
    with torch.inference_mode():
        rng = torch.Generator().manual_seed(0)
        expected = [first.bound(images, labels, rng)]
        expected.append(first.weighted_bound(images, labels, torch.Generator().manual_seed(0), 5))
        expected.append(weighted.bits(images, labels))
    errors = [float(bits.std() / len(bits) ** 0.5) for bits in expected]
    told = [f"{float(bits.mean()):.3f} ± {error:.3f}" for bits, error in zip(expected, errors, strict=True)]
    assert cells["vae"] == [told[0], told[1], ""] and cells["autoregressive"] == ["", "", told[2]]
    assert float(cells["vae, bf16"][0].split()[0]) == pytest.approx(float(expected[0].mean()), rel=0.05)
    assert precisions == [torch.float32, torch.bfloat16] * 2


def test_a_model_of_another_block_or_without_a_likelihood_is_one_line(block: Block, place: Path, capsys: Say) -> None:
    other = write_block(place / "other", 8, 3)
    model, without = train("vae", block), train("labels", block)
    for words, why in (
        ([other.path, "--models", model], f"{model} was trained on a block that is not among those given"),
        ([block.path, "--models", without], f"{without} does not know how likely an image is: leave it out"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            likelihood.main([str(word) for word in words])
        assert caught.value.code == 2 and capsys.readouterr().err == f"error: {why}\n"
