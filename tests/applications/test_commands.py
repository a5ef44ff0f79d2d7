"""`genmodel inpaint`, `denoise` and `upscale`: what they write; each mistake is one line and writes nothing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genmodel.applications.restore import completed, denoised, enlarged
from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.sampling.load import load_model
from tests.blocks import write_block

pytestmark = pytest.mark.usefixtures("toys")
SHORT = [word for key in ("image_size=8", "images=64", "batch_size=32", "log_every=32") for word in ("--set", key)]
Say = pytest.CaptureFixture[str]


def genmodel(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def save(path: Path, pixels: np.ndarray) -> Path:
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def trained(block: Block, place: Path, capsys: Say) -> Callable[..., Path]:
    def train(family: str, data: Path = block.path) -> Path:
        genmodel("train", family, "--data", data, "--out", f"models/{family}", *SHORT)
        capsys.readouterr()
        return place / "models" / family

    return train


@pytest.fixture
def files(place: Path) -> dict[str, Path]:
    """Images and masks of 8 px, and images of other sizes."""
    rng = np.random.default_rng(0)
    made = {f"image{size}": save(place / f"{size}.png", rng.integers(0, 255, (size, size, 3))) for size in (2, 4, 8, 9)}
    half = np.zeros((8, 8))
    half[4:] = 255
    made |= {"mask": save(place / "mask.png", half), "black": save(place / "black.png", 0 * half)}
    return made | {"wide": save(place / "wide.png", np.zeros((8, 16)))}


@pytest.mark.slow
def test_inpaint_writes_each_completion_and_a_strip_of_all(
    trained: Callable[..., Path], files: dict[str, Path], place: Path, capsys: Say
) -> None:
    folder = trained("conditional")
    words = ["--mask", files["mask"], "-n", 2, "--seed", 3, "--class", "square", "-o", "out/filled.png"]
    genmodel("inpaint", folder, files["image8"], *words)
    said = capsys.readouterr().out
    assert said == (
        "out/filled.png: the image, its mask and 2 completions, which are out/filled-1.png to filled-2.png\n"
    )
    model, _ = load_model(folder)
    image = pixels(files["image8"])
    expected = completed(model, _tensor(image), _tensor(pixels(files["mask"])) < 128, 2, 3, label=1).numpy()
    for number, each in enumerate(expected, 1):
        found = pixels(place / f"out/filled-{number}.png")
        assert (found == each).all() and (found[:4] == image[:4]).all()
    strip = pixels(place / "out/filled.png")
    assert strip.shape == (68 + 20, 4 * 68, 3)
    tiles = [strip[22 : 22 + 64 : 8, 2 + 68 * column : 2 + 68 * column + 64 : 8] for column in range(4)]
    assert (tiles[0] == image).all() and (tiles[1][:4] == image[:4]).all() and (tiles[1][4:] == [255, 128, 64]).all()
    assert (np.stack(tiles[2:]) == expected).all()
    assert all((strip[:20, 68 * column : 68 * column + 68] < 128).any() for column in range(4))  # a name above each


def test_a_model_that_draws_pixel_after_pixel_completes_and_one_is_written_alone(
    trained: Callable[..., Path], files: dict[str, Path], place: Path, capsys: Say
) -> None:
    genmodel("inpaint", trained("autoregressive"), files["image8"], "--mask", files["mask"], "-n", 1)
    assert capsys.readouterr().out.endswith("1 completion, which are inpainted-1.png\n")
    assert (pixels(place / "inpainted-1.png")[:4] == pixels(files["image8"])[:4]).all()


@pytest.mark.slow
def test_denoise_and_upscale_write_the_image_and_a_strip_beside_it(
    trained: Callable[..., Path], files: dict[str, Path], place: Path, capsys: Say
) -> None:
    folder = trained("three")
    model, _ = load_model(folder)
    genmodel("denoise", folder, files["image8"], "--sigma", 40, "--out", "clean.png")
    assert capsys.readouterr().out == "clean.png; clean-compared.png: noisy, denoised, median\n"
    expected = denoised(model, _tensor(pixels(files["image8"])), 40)
    assert (pixels(place / "clean.png") == expected.numpy()).all()
    strip = pixels(place / "clean-compared.png")  # its columns are as wide as the longest name
    width = strip.shape[1] // 3
    assert strip.shape == (88, 3 * width, 3) and 68 < width < 80
    left = width + (width - 68) // 2 + 2
    assert (strip[22 : 22 + 64 : 8, left : left + 64 : 8] == expected.numpy()).all()
    for factor, source in ((2, "image4"), (4, "image2")):
        genmodel("upscale", folder, files[source], "--factor", factor)
        assert capsys.readouterr().out == "upscaled.png; upscaled-compared.png: small, upscaled, bicubic\n"
        expected = enlarged(model, _tensor(pixels(files[source])), factor)
        assert (pixels(place / "upscaled.png") == expected.numpy()).all()


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_transparent_images_keep_their_channels(
    channels: int, trained: Callable[..., Path], files: dict[str, Path], place: Path
) -> None:
    folder = trained("three", write_block(place / "data", 8, channels).path)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (8, 8, channels))
    save(place / "mine.png", image[..., 0] if channels == 1 else image)
    genmodel("inpaint", folder, "mine.png", "--mask", files["mask"], "-n", 1)
    found = pixels(place / "inpainted-1.png").reshape(8, 8, channels)
    assert (found[:4] == image[:4]).all() and not (found[4:] == image[4:]).all()
    genmodel("denoise", folder, "mine.png")
    assert pixels(place / "denoised.png").reshape(8, 8, channels).any()


@pytest.mark.slow
def test_mistakes_are_one_line(
    trained: Callable[..., Path], files: dict[str, Path], place: Path, mistake: Callable[..., str]
) -> None:
    model, other, neither = trained("three"), trained("autoregressive"), trained("labels")
    image, mask = files["image8"], ("--mask", files["mask"])
    before = set(place.rglob("*"))
    drawn = f"and {model} draws 8 px: give one of that size"
    for words, why in (
        (["inpaint", model, files["image9"], *mask], f"{files['image9']} is 9 px, {drawn}"),
        (["inpaint", model, files["wide"], *mask], f"{files['wide']} is 16x8 px, {drawn}"),
        (["denoise", model, files["image4"]], f"{files['image4']} is 4 px, {drawn}"),
        (
            ["inpaint", model, image, "--mask", files["wide"]],
            f"{files['wide']} is 16x8 px, and the image is 8 px: give one of that size",
        ),
        (
            ["inpaint", model, image, "--mask", files["black"]],
            f"{files['black']} has no white pixel: white marks what is to be filled in",
        ),
        (
            ["upscale", model, image],
            f"{image} is 8 px, and with --factor 2 {model} enlarges 4 px: give one of that size",
        ),
        (["upscale", model, image, "--factor", 3], f"--factor: must divide the 8 px that {model} draws, not 3"),
        (["upscale", model, image, "--factor", 1], "--factor: must be at least 2, not 1"),
        (["upscale", model, image, "--factor", -2], "--factor: must be at least 2, not -2"),
        (["denoise", model, image, "--sigma", 0], "--sigma: is in levels of 0 to 255, above 0, not 0"),
        (["denoise", model, image, "--sigma", "nan"], "--sigma: is in levels of 0 to 255, above 0, not nan"),
        (["denoise", model, image, "--sigma", 256], "--sigma: is in levels of 0 to 255, above 0, not 256"),
        (["inpaint", model, image, *mask, "-n", 0], "-n: must be between 1 and 64, not 0"),
        (["inpaint", model, image, *mask, "--seed", -1], "--seed: must be between 0 and 2**63 - 1, not -1"),
        (
            ["inpaint", model, image, *mask, "--class", "circle"],
            f"--class: {model}: it is not conditional: leave out the class",
        ),
        (["denoise", model, place / "no.png"], f"{place / 'no.png'} cannot be read: No such file or directory"),
        (["denoise", model, place], f"{place} cannot be read: Is a directory"),
        (["denoise", model, image, "--out", "clean.jpg"], "--out: clean.jpg: what is written is a PNG: name it so"),
    ):
        assert mistake(*words) == why
    for command, folder, what in (
        ("denoise", other, "remove noise"),
        ("upscale", other, "enlarge an image"),
        ("denoise", neither, "remove noise"),
    ):
        told, _, can = mistake(command, folder, image).partition("; ")
        assert told == f"{folder}: it cannot {what}" and can.startswith("a model of one of these families can: dcgan, ")
    assert "it cannot complete an image; " in mistake("inpaint", neither, image, *mask)
    (place / "cut.png").write_bytes(image.read_bytes()[:60])
    assert mistake("denoise", model, "cut.png").startswith("cut.png: cannot be decoded: ")
    assert "is missing" in mistake("denoise", place / "nowhere", image)
    assert set(place.rglob("*")) - before == {place / "cut.png"}


def test_colours_for_a_grey_model_are_one_line(
    trained: Callable[..., Path], files: dict[str, Path], place: Path, mistake: Callable[..., str]
) -> None:
    grey = trained("three", write_block(place / "data", 8, 1).path)
    said = mistake("denoise", grey, files["image8"])
    assert said == f"{files['image8']} has colours, and the model draws grey images: convert it to grey"


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.copy())
