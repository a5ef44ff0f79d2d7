"""`genmodel sample` and `export` of a conditional model: a row a class, one class alone, and what is said of others."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime
import pytest

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.sampling.draw import sample, sample_classes
from genmodel.sampling.load import load_model
from genmodel.sampling.requests import codes
from genmodel.showing.grids import save_grid

pytestmark = pytest.mark.usefixtures("toys")
SHORT = [word for key in ("image_size=8", "images=64", "batch_size=32", "log_every=32") for word in ("--set", key)]
Say = pytest.CaptureFixture[str]


def genmodel(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


@pytest.fixture
def trained(block: Block, place: Path, capsys: Say) -> Path:
    """A conditional model of the classes circle and square; and an unconditional one beside it."""
    for family in ("conditional", "labels"):
        genmodel("train", family, "--data", block.path, *SHORT)
    capsys.readouterr()
    return place / "models/conditional"


def test_a_grid_has_a_row_a_class_or_one_class_alone(trained: Path, place: Path, capsys: Say) -> None:
    model, about = load_model(trained)
    assert model.classes == 2 and sum(about["class_counts"]) == 58
    for words, images, columns, said in (
        ([], sample_classes(model, 8, 3, [0, 1]), 8, "grid.png: one row per class: circle, square\n"),
        (["-n", 5], sample_classes(model, 5, 3, [0, 1]), 5, "grid.png: one row per class: circle, square\n"),
        (["--class", "square"], sample_classes(model, 64, 3, [1]), None, "grid.png\n"),
        (["--class", "1", "-n", 5], sample_classes(model, 5, 3, [1]), None, "grid.png\n"),
    ):
        genmodel("sample", trained, "--seed", 3, *words)
        assert capsys.readouterr().out == said
        save_grid(place / "expected.png", images, columns)
        assert (place / "grid.png").read_bytes() == (place / "expected.png").read_bytes(), words
    plain = load_model(place / "models/labels")[0]
    genmodel("sample", place / "models/labels", "--seed", 3)
    save_grid(place / "expected.png", sample(plain, 64, 3))
    assert (place / "grid.png").read_bytes() == (place / "expected.png").read_bytes()


def test_classes_are_listed_by_number_and_name(trained: Path, place: Path, capsys: Say) -> None:
    genmodel("sample", trained, "--classes")
    assert capsys.readouterr().out == "0 circle\n1 square\n" and not (place / "grid.png").exists()


def test_a_class_that_cannot_be_had_is_one_line(trained: Path, place: Path, mistake: Callable[..., str]) -> None:
    for words, why in (
        (["--class", "circel"], f"--class: {trained}: it has no class 'circel'; did you mean 'circle'?"),
        (["--class", "2"], f"--class: {trained}: it has no class '2': its classes are numbered 0 to 1"),
    ):
        assert mistake("sample", trained, *words) == why
    plain = place / "models/labels"
    for words, why in ((["--class", "circle"], ": leave out the class"), (["--classes"], " and has no classes")):
        expected = f"{words[0]}: {plain}: it is not conditional{why}"
        assert mistake("sample", plain, *words) == expected
    assert not (place / "grid.png").exists()


@pytest.mark.slow
def test_a_conditional_model_as_onnx_takes_the_class_as_the_last_code(trained: Path, place: Path) -> None:
    genmodel("export", trained, "--onnx", "model.onnx")
    session = onnxruntime.InferenceSession(place / "model.onnx", providers=["CPUExecutionProvider"])
    model, _ = load_model(trained)
    (images,) = session.run(["images"], {"codes": codes(model.space, [1.0, 1.0], 70, 3, label=1).numpy()})
    assert abs(images.astype(int) - sample_classes(model, 70, 3, [1]).numpy()).max() <= 1
