"""The pass over a model's samples is made once for (weights, codes, extractor), and only a whole one is used again."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from genmodel.evaluation import samples
from genmodel.evaluation.extractors.choice import Pixels
from genmodel.evaluation.figures.of_features import Compared
from genmodel.evaluation.figures.real import Real
from genmodel.evaluation.samples import Pass, Samples, take
from genmodel.models.contract import Family
from genmodel.models.noise import Space, uniform
from genmodel.sampling.draw import Networks
from genmodel.sampling.load import load_model
from genmodel.sampling.requests import BATCH
from genmodel.sampling.walks import between


@pytest.fixture
def model(vae_folder: Path) -> Family:
    return load_model(vae_folder)[0]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that an extractor was asked for."""
    asked: list[int] = []
    forward = Pixels.forward

    def counted(self: Pixels, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        asked.append(len(images))
        return forward(self, images)

    monkeypatch.setattr(Pixels, "forward", counted)
    return asked


def drawn_by(model: Family, weights: str = "w") -> Networks:
    return Networks(model, weights, "toy")


def equal(a: Samples, b: Samples) -> bool:
    logits = (a.features.logits is None) == (b.features.logits is None)
    walks = a.walks is None if b.walks is None else a.walks is not None and torch.equal(a.walks, b.walks)
    return walks and (
        logits and torch.equal(a.features.values, b.features.values) and torch.equal(a.pairs, b.pairs)
        and a.levels == b.levels
    )  # fmt: skip


def test_a_second_evaluation_makes_no_pass(model: Family, passes: list[int], tmp_path: Path) -> None:
    first, took = take(drawn_by(model), 300, 1, Pixels(), tmp_path)
    assert passes == [256, 44, 256, 256] and took.features_images_per_second is not None
    again, kept = take(drawn_by(model), 300, 1, Pixels(), tmp_path)
    assert passes == [256, 44, 256, 256] and kept == Pass()
    assert equal(first, again) and equal(first, take(drawn_by(model), 300, 1, Pixels())[0])


@pytest.mark.parametrize("change", ["weights", "n", "seed", "extractor", "code", "space"])
def test_what_differs_is_made_anew(
    change: str, model: Family, passes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(drawn_by(model), 20, 1, Pixels(), tmp_path)
    if change == "extractor":
        monkeypatch.setattr(Pixels, "fingerprint", "another")
    if change == "code":
        monkeypatch.setattr(samples.code, "digest", lambda *_: "another")
    if change == "space":
        monkeypatch.setattr(model, "space", Space((uniform(model.space.width),)))
    n, seed, weights = 21 if change == "n" else 20, 2 if change == "seed" else 1, "v" if change == "weights" else "w"
    take(drawn_by(model, weights), n, seed, Pixels(), tmp_path)
    assert len(passes) == 2 * 2  # samples, and walks between them


@pytest.mark.parametrize("suffix", [".safetensors", ".json"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "gone"])
def test_what_is_damaged_is_made_again(
    suffix: str, harm: str, model: Family, passes: list[int], tmp_path: Path
) -> None:
    first, _ = take(drawn_by(model), 20, 1, Pixels(), tmp_path)
    (path,) = tmp_path.glob(f"*{suffix}")
    content = bytearray(path.read_bytes())
    content[2 if suffix == ".json" else -1] ^= 1
    path.write_bytes(path.read_bytes()[:-9] if harm == "cut" else content)
    if harm == "gone":
        path.unlink()
    again, _ = take(drawn_by(model), 20, 1, Pixels(), tmp_path)
    assert len(passes) == 2 * 2 and equal(first, again)
    take(drawn_by(model), 20, 1, Pixels(), tmp_path)
    assert len(passes) == 2 * 2  # samples, and walks between them


def test_only_the_newest_are_kept(model: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(samples, "_KEPT", 3)
    for seed in range(5):
        take(drawn_by(model), 20, seed, Pixels(), tmp_path)
    assert len(list(tmp_path.iterdir())) == 6


def test_images_that_are_no_numbers_are_counted(model: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = type(model).sample

    def broken(self: Family, noise: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        images = whole(self, noise, labels).clone()
        images[3, 0, 0, 0] = torch.nan
        return images

    monkeypatch.setattr(type(model), "sample", broken)
    assert take(drawn_by(model), 300, 1, Pixels())[0].levels.broken == math.ceil(300 / BATCH)  # one a batch


def test_walks_are_those_between_the_first_samples(model: Family) -> None:
    source = drawn_by(model)
    found = take(source, 40, 1, Pixels())[0].walks
    assert found is not None and found.shape == (20, 3)
    codes = source.codes(40, 1)
    for number in (0, 19):
        way = between(model.space, codes[2 * number], codes[2 * number + 1], 16)
        features = Pixels()(source.draw(way)[0])[0].double()
        steps = (features[1:] - features[:-1]).norm(dim=1)
        expected = [float(steps.sum()), float((features[-1] - features[0]).norm()), float(steps.max())]
        assert found[number].tolist() == pytest.approx(expected, rel=1e-4)


def test_where_noise_means_nothing_there_are_no_walks(
    model: Family, passes: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "space", Space(model.space.parts, meaningful=False))
    for _ in range(2):  # made, and from the cache
        samples, _ = take(drawn_by(model), 40, 1, Pixels(), tmp_path)
        assert samples.walks is None and passes == [40]
    compared = Compared(Real.of(samples.features.values, samples.features.values[:0]), samples.features, samples.pairs)
    assert not any(name.startswith("walk") for name in compared.estimates("pixels"))
    walked = replace(compared, walks=torch.tensor([[3.0, 2.0, 1.5]]).double()).estimates("pixels")
    assert walked["walk_detour_pixels"].value == 1.5 and walked["walk_jump_pixels"].value == 0.5
