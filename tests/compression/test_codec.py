"""Images through a model's probabilities, as a user holds them: `genmodel compress` and `genmodel decompress`."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genmodel.cli import main
from genmodel.compression import codec
from genmodel.compression.codec import HEADER, compressed, decompressed
from genmodel.data.block import Block
from genmodel.models.abilities import Codes, Likelihood
from genmodel.models.contract import Family, build_model
from genmodel.params import run_config
from genmodel.sampling.load import load_model

WEIGHTS = "0123456789abcdef" * 4
SETTINGS = {"base_channels": 6, "blocks": 1, "halvings": 1, "components": 3}


def toy(channels: int, classes: int = 0, size: str = "8") -> Family:
    network = {**SETTINGS, "conditional": bool(classes)}
    config = run_config({"family": "pixelcnn", "image_size": size, "network": network}, "toy")
    model = build_model(config, classes, channels).eval().requires_grad_(False)
    for value in model.parameters():
        value.add_(0.03 * torch.randn(value.shape, generator=torch.Generator().manual_seed(value.numel())))
    return model


def images(n: int, channels: int, height: int = 8, width: int = 8) -> torch.Tensor:
    rng = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, height, width, channels), generator=rng, dtype=torch.uint8)


@pytest.mark.slow
@pytest.mark.parametrize(("channels", "classes", "label", "n"), [(1, 0, None, 1), (3, 3, 2, 3), (4, 3, None, 2)])
def test_images_come_back_and_take_the_bits_that_the_model_says(
    channels: int, classes: int, label: int | None, n: int
) -> None:
    """What it says of likely images and of unlikely ones: the size without its header, within 2%."""
    model = toy(channels, classes)
    assert isinstance(model, Likelihood)
    labels = torch.full((n,), -1 if label is None else label)
    noise = torch.rand(n, model.space.width, generator=torch.Generator().manual_seed(0)) * 2 - 1
    drawn = model.sample(noise, labels if classes else None)
    likely = (drawn.permute(0, 2, 3, 1) * 127.5 + 127.5).round().to(torch.uint8)
    for some in (images(n, channels), likely):
        content = compressed(model, WEIGHTS, some, label)
        assert torch.equal(decompressed(model, WEIGHTS, content, "it"), some)
        expected = float(model.bits(some, labels).mean()) * some.numel()
        assert 8 * (len(content) - HEADER) == pytest.approx(expected, rel=0.02, abs=10)


def test_a_rectangle_comes_back_whatever_the_threads_of_the_reader() -> None:
    model, some = toy(1, size="16x8"), images(2, 1, 8, 16)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        content = compressed(model, WEIGHTS, some, None)
        assert torch.get_num_threads() == 2
        torch.set_num_threads(1)
        assert torch.equal(decompressed(model, WEIGHTS, content, "it"), some)
    finally:
        torch.set_num_threads(threads)


def test_the_probabilities_that_are_coded_are_those_of_the_likelihood() -> None:
    model, some = toy(3), images(2, 3)
    assert isinstance(model, Codes) and isinstance(model, Likelihood)
    values, bits = iter(some.flatten(1).T), torch.zeros(2, dtype=torch.float64)

    def choose(probabilities: torch.Tensor) -> torch.Tensor:
        nonlocal bits
        levels = next(values).long()
        bits -= probabilities.gather(1, levels[:, None])[:, 0].log2()
        return levels

    unknown = torch.full((2,), -1)
    assert torch.equal(model.visit(unknown, choose), some)
    torch.testing.assert_close(bits / some[0].numel(), model.bits(some, unknown).double(), atol=1e-5, rtol=1e-5)


@pytest.fixture
def trained(block: Block, place: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    words = [f"{key}={value}" for key, value in SETTINGS.items()]
    words += ["image_size=8", "images=64", "batch_size=32", "log_every=32", "conditional=true"]
    command = ["train", "pixelcnn", "--data", str(block.path), "--out", "models/toy"]
    assert main([*command, *(word for each in words for word in ("--set", each))]) == 0
    capsys.readouterr()
    return place / "models/toy"


def png(path: Path, pixels: np.ndarray | torch.Tensor) -> Path:
    Image.fromarray(np.asarray(pixels)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.slow
def test_one_image_and_several_through_files(trained: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = images(3, 3)
    paths = [png(place / f"{number}.png", image) for number, image in enumerate(some)]
    assert main(["compress", str(trained), str(paths[0]), "-o", "one.gm", "--class", "0"]) == 0
    said = capsys.readouterr().out
    size = (place / "one.gm").stat().st_size
    assert f"one.gm: 1 image in {size:,} bytes, {HEADER} of them a header; " in said
    measured, told = (float(word) for word in re.findall(r"(\d+\.\d+)", said.split(";")[1]))
    assert measured == pytest.approx(told, rel=0.02) and measured == pytest.approx((size - HEADER) / 24, abs=1e-3)
    assert main(["decompress", str(trained), "one.gm", "-o", "back.png"]) == 0
    assert np.array_equal(pixels(place / "back.png"), some[0])
    assert main(["compress", str(trained), *map(str, paths), "-o", "all.gm"]) == 0
    assert main(["decompress", str(trained), "all.gm", "-o", "back.png"]) == 0
    for number in range(3):
        assert np.array_equal(pixels(place / f"back-{number + 1}.png"), some[number])


@pytest.mark.slow
def test_a_file_that_is_damaged_cut_or_foreign_is_one_line(
    trained: Path, place: Path, mistake: Callable[..., str]
) -> None:
    """A byte changed, every kind of length, and files that are none of ours; nothing is written."""
    png(place / "image.png", images(1, 3)[0])
    assert main(["compress", str(trained), "image.png", "-o", "good.gm"]) == 0
    good = (place / "good.gm").read_bytes()

    def told(content: bytes) -> str:
        (place / "bad.gm").write_bytes(content)
        return mistake("decompress", trained, "bad.gm", "-o", "back.png")

    foreign = "is not a file that genmodel compress made"
    for at in (0, 14, 15, 16, 33, 49, 57, HEADER - 1, HEADER, len(good) - 1):
        changed = bytearray(good)
        changed[at] ^= 1
        assert (foreign if at < 15 else "damaged or cut off") in told(bytes(changed)), at
    for length in (0, 5, 15, 16, 40, HEADER - 1, HEADER, len(good) - 1):
        assert (foreign if length < 15 else "damaged or cut off") in told(good[:length]), length
    assert "damaged or cut off" in told(good + b"x")
    assert foreign in told((place / "image.png").read_bytes())
    assert "cannot be read" in mistake("decompress", trained, "absent.gm", "-o", "back.png")
    assert not (place / "back.png").exists()


def test_a_file_of_another_model_is_one_line(trained: Path, place: Path, mistake: Callable[..., str]) -> None:
    model, _ = load_model(trained)
    (place / "other.gm").write_bytes(compressed(model, WEIGHTS, images(1, 3), None))
    line = mistake("decompress", trained, "other.gm")
    assert f"other.gm was made by another model: give the one with weights {WEIGHTS[:12]}" in line
    assert not (place / "image.png").exists()


def test_a_machine_that_rounds_otherwise_is_told_of_by_the_pixels(
    trained: Path, place: Path, mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    png(place / "image.png", images(1, 3)[0])
    assert main(["compress", str(trained), "image.png", "-o", "good.gm"]) == 0
    whole = codec.cumulative
    monkeypatch.setattr(codec, "cumulative", lambda probabilities: whole(probabilities + 1e-6))
    assert "its images come out otherwise here" in mistake("decompress", trained, "good.gm", "-o", "back.png")
    assert not (place / "back.png").exists()


def test_images_that_cannot_come_back_as_they_are_are_refused(
    trained: Path, place: Path, mistake: Callable[..., str]
) -> None:
    rng = np.random.default_rng(0)
    wide = png(place / "wide.png", rng.integers(0, 255, (8, 16, 3), np.uint8))
    alpha = png(place / "alpha.png", rng.integers(0, 255, (8, 8, 4), np.uint8))
    deep = png(place / "deep.png", rng.integers(0, 65535, (8, 8), np.uint16))
    assert "wide.png is 16x8 px, and" in mistake("compress", trained, wide, "-o", "out.gm")
    assert "alpha.png has transparency, which would be lost" in mistake("compress", trained, alpha, "-o", "out.gm")
    assert "deep.png has more than 8 bits" in mistake("compress", trained, deep, "-o", "out.gm")
    assert "absent.png cannot be read" in mistake("compress", trained, "absent.png", "-o", "out.gm")
    assert "it has no class 'seven'" in mistake("compress", trained, wide, "-o", "out.gm", "--class", "seven")
    many = [wide] * (codec.MOST + 1)
    assert "a file holds up to 64 images, not 65" in mistake("compress", trained, *many, "-o", "out.gm")
    assert not (place / "out.gm").exists()
    assert "name it so" in mistake("decompress", trained, "out.gm", "-o", "back.jpg")


def test_a_model_that_cannot_is_told_which_can(block: Block, place: Path, mistake: Callable[..., str]) -> None:
    words = [word for each in ("image_size=8", "images=64", "batch_size=32") for word in ("--set", each)]
    assert main(["train", "vae", "--data", str(block.path), "--out", "models/vae", *words]) == 0
    png(place / "image.png", images(1, 3)[0])
    line = mistake("compress", "models/vae", "image.png", "-o", "out.gm")
    assert "models/vae: it cannot compress images; a model of one of these families can: pixelcnn" in line
