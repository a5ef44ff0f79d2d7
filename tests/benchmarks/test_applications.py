"""The table of errors of completing, denoising and enlarging, and its pictures."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from benchmarks import applications
from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.sizes import Size
from tests.blocks import write_block

pytestmark = pytest.mark.usefixtures("toys")
SHORT = [word for key in ("image_size=8", "images=64", "batch_size=32", "log_every=32") for word in ("--set", key)]
Say = pytest.CaptureFixture[str]


def train(family: str, block: Block) -> str:
    assert main(["train", family, "--data", str(block.path), *SHORT]) == 0
    return f"models/{family}"


@pytest.mark.slow
def test_models_stand_beside_plain_ways(block: Block, place: Path, capsys: Say) -> None:
    models = [train("three", block), train("autoregressive", block)]
    capsys.readouterr()
    words = ["--data", str(block.path), "--images", "2", "--draws", "2", "--tasks", "upscale", "--picture", "page.png"]
    assert applications.main([*models, *words]) == 0
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert head == "| 2 held-out images of data | by | one answer | mean of 2 |" and rule.count("|") == 5
    cells = [[cell.strip() for cell in line.split("|")[1:5]] for line in lines]
    assert [row[:2] for row in cells] == [
        [f"upscale, factor {factor}", by] for factor in (2, 4) for by in ("bicubic", "three", "autoregressive")
    ]
    for _, by, one, mean in cells:
        assert (one == "cannot") == (by == "autoregressive") and bool(mean) == (by == "three")
        assert one == "cannot" or 0 < float(one.split()[0]) < 128
    with Image.open("page-upscale-factor-2.png") as page:
        assert page.height == 20 + 2 * (64 + 4) + 4  # the images below each other, under a name


def test_what_is_measured_is_what_is_asked_for() -> None:
    for size in (Size(16, 16), Size(8, 12)):
        for name, task in applications.tasks(size).items():
            image = torch.randint(1, 256, (*size, 3), dtype=torch.uint8)
            shown = task.seen(image)
            if name.startswith("inpaint"):
                assert not shown[task.asked].any() and torch.equal(shown[~task.asked], image[~task.asked])
                assert float(task.asked.double().mean()) == (0.5 if "half" in name else 0.25)
            else:
                assert task.asked.all() and torch.equal(shown, task.seen(image))


def test_an_error_is_the_root_of_the_mean_square_of_what_was_asked_for() -> None:
    truth = torch.zeros(2, 4, 4, 1, dtype=torch.uint8)
    made, asked = truth.clone(), torch.zeros(4, 4, dtype=torch.bool)
    asked[0] = True
    made[0, 0], made[1, 0] = 6, 8
    made[:, 1:] = 200
    assert applications._error(made, truth, asked) == "7.1 ± 1.0 (31.1 dB)"


def test_models_of_other_channels_are_one_line(block: Block, place: Path, capsys: Say) -> None:
    model = train("three", block)
    grey = write_block(place / "grey", 8, 1)
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        applications.main([model, "--data", str(grey.path)])
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {grey.path} has images of 1 channels, and the models draw 3\n"
