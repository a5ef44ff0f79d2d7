"""`genmodel interpolate` and `traverse`: their pictures hold the samples that they say, and mistakes are one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.sampling.draw import sample, sample_classes
from genmodel.sampling.load import load_model
from genmodel.sampling.sweeps import codes_of
from genmodel.showing.grids import grid
from genmodel.showing.walks import sweeps, walk

pytestmark = pytest.mark.usefixtures("toys")
SHORT = [word for key in ("image_size=8", "images=64", "batch_size=32", "log_every=32") for word in ("--set", key)]
Say = pytest.CaptureFixture[str]
Build = Callable[..., torch.nn.Module]


def genmodel(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture
def trained(block: Block, place: Path, capsys: Say) -> Callable[[str], Path]:
    def train(family: str) -> Path:
        genmodel("train", family, "--data", block.path, *SHORT)
        capsys.readouterr()
        return place / "models" / family

    return train


@pytest.mark.parametrize("family", ["dcgan", "vae", "infogan", "categories"])
def test_the_ends_of_a_walk_are_the_samples_themselves(family: str, built: Build) -> None:
    model = built(family, base_channels=8)
    samples, frames = sample(model, 8, seed=5), walk(model, (3, 7), 24, seed=5)
    assert frames.shape == (24, 16, 16, 3)
    assert torch.equal(frames[0], samples[3]) and torch.equal(frames[-1], samples[7])
    assert not torch.equal(frames[0], frames[-1]) and len({frame.numpy().tobytes() for frame in frames}) > 1


def test_interpolate_writes_a_strip_and_a_gif(trained: Callable[[str], Path], place: Path, capsys: Say) -> None:
    folder = trained("dcgan")
    genmodel("interpolate", folder, "--from", 3, "--to", 70, "--frames", 6, "--seed", 2, "--out", "there/way.png")
    assert capsys.readouterr().out == "there/way.png, there/way.gif: 6 frames from sample 3 to sample 70 of seed 2\n"
    model, _ = load_model(folder)
    samples = sample(model, 71, 2)
    with Image.open(place / "there/way.png") as strip:
        shown = np.asarray(strip.convert("RGB"))
    for column, number in ((0, 3), (5, 70)):
        alone = np.asarray(grid(samples[number : number + 1], zoom=8, gap=0))
        left = 2 + column * 66
        assert (shown[2:66, left : left + 64] == alone).all()
    with Image.open(place / "there/way.gif") as moving:
        assert moving.n_frames == 10 and moving.info["loop"] == 0  # there and back: no end is shown twice


def test_a_conditional_model_walks_in_each_class_or_in_one(trained: Callable[[str], Path], place: Path) -> None:
    folder = trained("conditional")
    model, _ = load_model(folder)
    genmodel("interpolate", folder, "--frames", 4)
    with Image.open(place / "walk.png") as both:
        assert both.size == (4 * 66 + 2, 2 * 66 + 2)
    genmodel("interpolate", folder, "--frames", 4, "--class", "square", "--out", "one.png")
    with Image.open(place / "one.png") as one:
        assert one.size == (4 * 66 + 2, 66 + 2)
    assert torch.equal(walk(model, (0, 1), 4, 0, [1])[[0, 3]], sample_classes(model, 2, 0, [1]))


@pytest.mark.slow
def test_traverse_tells_how_much_each_code_changes_the_image(
    trained: Callable[[str], Path], place: Path, capsys: Say
) -> None:
    folder = trained("infogan")
    genmodel("traverse", folder, "-n", 2, "--code", 0, "--code", 2, "--frames", 5)
    head, *lines, last = capsys.readouterr().out.splitlines()
    assert head.split() == ["code", "kind", "change", "evenness"]
    assert [line.split()[:2] for line in lines] == [["0", "categorical"], ["2", "uniform"]]
    model, _ = load_model(folder)
    for line, (_, _, meaning) in zip(
        lines, sweeps(model, [codes_of(model.space)[number] for number in (0, 2)], 5, 0), strict=True
    ):
        assert line.split()[2:] == [f"{meaning.change:.1f}", f"{meaning.evenness:.2f}"]
    assert last == "traverse.png, traverse.gif: a code below the other, each in 2 samples of seed 0"
    with Image.open(place / "traverse.png") as page, Image.open(place / "traverse.gif") as moving:
        assert page.size == (72 + 10 * 66 + 2, 2 * (2 * 66 + 2)) and moving.n_frames == 8


def test_a_sweep_of_one_category_of_a_known_generator(built: Build) -> None:
    """Of images that depend on nothing but their category, the sweep shows each, and each base image has the same."""
    model = built("categories")
    chosen = [code for code in codes_of(model.space) if code.part.kind == "categorical"]
    model.sample = lambda noise, labels=None: (noise[:, 4] - 1)[:, None, None, None].expand(-1, 3, 16, 16)
    ((_, images, meaning),) = sweeps(model, chosen, 7, seed=1, n=4)
    assert images[:, :, 0, 0, 0].tolist() == [[0, 128, 255]] * 4
    assert meaning == (pytest.approx((128 + 127 + 255) / 3), pytest.approx(127 / 170))


def test_mistakes_are_one_line(trained: Callable[[str], Path], place: Path, mistake: Callable[..., str]) -> None:
    folder, other = trained("vae"), trained("autoregressive")
    nothing = f"{other}: it draws pixel after pixel, so that there is nothing between two of its images"
    for words, why in (
        (["interpolate", folder, "--frames", 1], "--frames: must be between 2 and 1000, not 1"),
        (["interpolate", folder, "--from", -1], "--from: is the number of a sample, at least 0, not -1"),
        (["interpolate", folder, "--to", 2**60], f"--to: is the number of a sample, below 2**53, not {2**60}"),
        (["interpolate", folder, "--seed", -1], "--seed: must be between 0 and 2**63 - 1, not -1"),
        (
            ["interpolate", folder, "--class", "circle"],
            f"--class: {folder}: it is not conditional: leave out the class",
        ),
        (["interpolate", other], nothing),
        (["traverse", other], nothing),
        (["traverse", folder, "--code", 100], f"--code: {folder}: it has no code 100: its 100 are numbered from 0"),
        (["traverse", folder, "--code", -1], f"--code: {folder}: it has no code -1: its 100 are numbered from 0"),
        (["traverse", folder, "--frames", 1], "--frames: must be between 2 and 1000, not 1"),
        (["traverse", folder, "-n", 0], "-n: must be between 1 and 64, not 0"),
    ):
        assert mistake(*words) == why
    assert "is missing" in mistake("interpolate", place / "nowhere")
    assert not list(place.glob("*.png")) and not list(place.glob("*.gif"))
    said = mistake("interpolate", folder, "--out", "walk.gif")
    assert said == "--out: walk.gif: the picture is a PNG, and the GIF of that name is written beside it"


def test_a_finished_model_keeps_the_walk_between_two_samples_of_its_grid(trained: Callable[[str], Path]) -> None:
    folder = trained("vae")
    with Image.open(max((folder / "samples").glob("*.png"))) as picture, Image.open(folder / "walk.png") as strip:
        top, shown = np.asarray(picture)[:68], np.asarray(strip)
    assert shown.shape == top.shape
    for left in (2, 2 + 7 * 66):
        assert (shown[2:66, left : left + 64] == top[2:66, left : left + 64]).all()
    assert not (trained("autoregressive") / "walk.png").exists()
