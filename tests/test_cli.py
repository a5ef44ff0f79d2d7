"""Every sub-command of `genmodel` on a toy folder of images; every mistake is one line, and harms nothing."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pandas as pd
import pytest
import torch
from PIL import Image

from genmodel.cli import main
from genmodel.data.block import Block

ROOT = Path(__file__).parent.parent
TOY = ["image_size=8", "images=64", "batch_size=32", "network.latent_dim=4", "base_channels=4", "log_every=32"]
SHORT = [word for setting in TOY for word in ("--set", setting)]
PARAMS = """
models:
  small: {family: vae, image_size: 8, network: {latent_dim: 4, base_channels: 4}, training: {images: 64}}
evaluation: {samples: 16, classifier_images: 64, image_size: 8}
"""

Say = pytest.CaptureFixture[str]


def genmodel(*words: object) -> int:
    return main([str(word) for word in words])


def error(capsys: Say, *words: object) -> str:
    """The one line on stderr of a command that must fail as a user's mistake."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        genmodel(*words)
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and said.err.count("\n") == 1 and said.err.endswith("\n"), said.err
    return said.err.removeprefix("error: ").strip()


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def raw(block: Block, tmp_path: Path) -> Path:
    """60 PNGs in two class folders, ours to spoil."""
    return Path(shutil.copytree(block.path.parent / "raw", tmp_path / "raw"))


@pytest.fixture(scope="session")
def trained(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished toy VAE."""
    folder = tmp_path_factory.mktemp("trained")
    genmodel("train", "vae", "--data", block.path, "--out", folder / "vae", "--runs", folder / "runs", *SHORT)
    return folder / "vae"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the command stands."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_prepare_then_verify(raw: Path, place: Path, capsys: Say) -> None:
    assert genmodel("prepare", raw, "--out", "data", "--sizes", "8,16", "--workers", 2) == 0
    assert capsys.readouterr().out == "data: 60 images in 2 classes at 8, 16 px\n"
    assert genmodel("verify", "data") == 0
    assert "60 images, all files as they were written" in capsys.readouterr().out
    assert [path.name for path in place.iterdir() if "partial" in path.name or "old" in path.name] == []


@pytest.mark.parametrize("family", ["dcgan", "vae"])
def test_train_then_sample(family: str, block: Block, place: Path, capsys: Say) -> None:
    assert genmodel("train", family, "--data", block.path, *SHORT) == 0
    out = place / "models" / family
    assert {"weights.safetensors", "config.json", "history.csv", "samples"} == {path.name for path in out.iterdir()}
    assert json.loads((out / "config.json").read_text())["config"]["training"]["images"] == 64
    for name in ("a.png", "again.png"):
        assert genmodel("sample", out, "-n", 5, "--seed", 3, "--out", name) == 0
    assert genmodel("sample", out, "-n", 5, "--seed", 4, "--out", "other.png") == 0
    a, again, other = ((place / name).read_bytes() for name in ("a.png", "again.png", "other.png"))
    assert a == again != other
    assert Image.open(place / "a.png").mode == "RGB"


def test_evaluate_prints_the_report(trained: Path, block: Block, place: Path, capsys: Say) -> None:
    (place / "params.yaml").write_text(PARAMS)
    assert genmodel("evaluate", trained, "--data", block.path, "--params", "params.yaml") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["conditions"]["n_samples"] == 16
    assert told["figures"]["fd_classifier"] > 0 and told["figures"]["bits_per_dim"] > 0
    assert told["timing"]["seconds"] > 0
    assert (place / "reference" / "reference.json").exists()


def test_a_model_of_params_yaml(block: Block, place: Path, capsys: Say) -> None:
    (place / "params.yaml").write_text(PARAMS)
    words = ["train", "small", "--data", block.path, "--params", "params.yaml"]
    assert genmodel(*words, "--set", "seed=7", "--set", "training.images=32") == 0
    config = json.loads((place / "models/small/config.json").read_text())
    assert (config["name"], config["config"]["family"]) == ("small", "vae")
    assert config["config"]["training"]["seed"] == 7 and config["config"]["training"]["images"] == 32
    words[1] = "smal"
    assert error(capsys, *words) == "params.yaml has no model 'smal', only small"


@pytest.mark.parametrize("command", ["prepare", "verify", "train", "sample", "evaluate"])
def test_help_has_defaults_and_an_example(command: str, capsys: Say) -> None:
    with pytest.raises(SystemExit) as caught:
        genmodel(command, "--help")
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "(default: " in told
    example = told[told.index("example:") :]
    assert f"genmodel {command} " in example


def test_examples_in_help_are_commands_that_parse(capsys: Say) -> None:
    from genmodel.cli import _parser

    for command in ("prepare", "verify", "train", "sample", "evaluate"):
        with pytest.raises(SystemExit):
            genmodel(command, "--help")
        words = capsys.readouterr().out.split("example:\n")[1].split()
        assert words.pop(0) == "genmodel"
        assert _parser().parse_args(words).run.__name__ == command


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["train", "dcgann"], ["dcgann", "did you mean 'dcgan'"]),
        (["train", "vae", "--set", "batchsize=9"], ["--set", "batchsize", "did you mean 'batch_size'"]),
        (["train", "vae", "--set", "batch_size=many"], ["training.batch_size", "whole number", "'many'"]),
        (["train", "vae", "--set", "batch_size=0"], ["training.batch_size", "at least 1", "0"]),
        (["train", "vae", "--set", "batch_size"], ["--set batch_size", "key=value"]),
        (["train", "vae", "--set", "image_size=12"], ["vae cannot do 12 px", "powers of two"]),
        (["train", "dcgan", "--set", "image_size=24"], ["dcgan cannot do 24 px", "powers of two"]),
        (["train", "vae", "--set", "image_size=32"], ["has 8 px, not 32", "--sizes 8,32"]),
        (["train", "vae", "--data", "nowhere"], ["no block at nowhere", "genmodel prepare"]),
        (["train", "vae", "--params", "nowhere.yaml"], ["nowhere.yaml is missing"]),
        (["train", "vae", "--device", "cuda"], ["--device cuda", "no GPU", "--device cpu"]),
        (["train", "vae", "--device", "cuda:1"], ["--device cuda:1", "no GPU"]),
        (["train", "vae", "--device", "gpu"], ["--device gpu", "cpu, cuda"]),
    ],
)
def test_mistakes_in_training(
    words: list[str], expected: list[str], block: Block, place: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    _write(place / "models" / words[1] / "config.json", b"a good model")
    line = error(capsys, *words, *(["--data", block.path] if "--data" not in words else []))
    assert all(part in line for part in expected), line
    assert tree(place) == {f"models/{words[1]}/config.json": b"a good model"}, "nothing made, nothing lost"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sample", "nowhere"], ["nowhere/config.json is missing", "train"]),
        (["sample", "MODEL", "-n", "0"], ["-n", "at least 1", "0"]),
        (["sample", "MODEL", "--seed", "-1"], ["--seed", "-1"]),
        (["sample", "MODEL", "--device", "cuda"], ["--device cuda", "no GPU"]),
        (["sample", "MODEL", "--out", "folder"], ["cannot write folder", "in the way"]),
        (["evaluate", "nowhere", "--data", "DATA"], ["nowhere/config.json is missing"]),
        (["evaluate", "MODEL", "--data", "nowhere"], ["no block at nowhere"]),
        (["evaluate", "MODEL", "--data", "DATA", "--device", "cuda"], ["--device cuda", "no GPU"]),
        (["evaluate", "MODEL", "--data", "DATA", "--reference", "folder"], ["folder/reference.json is missing"]),
        (["verify", "nowhere"], ["no block at nowhere"]),
    ],
)
def test_mistakes_with_what_was_made(
    words: list[str],
    expected: list[str],
    block: Block,
    trained: Path,
    place: Path,
    capsys: Say,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (place / "folder").mkdir()
    (place / "grid.png").write_bytes(b"a good picture")
    named = {"MODEL": trained, "DATA": block.path}
    line = error(capsys, *(named.get(word, word) for word in words))
    assert all(part in line for part in expected), line
    assert tree(place) == {"grid.png": b"a good picture"}


@pytest.mark.parametrize("command", [["prepare", "raw", "--sizes", "8"], ["train", "vae", "--data", "block", *SHORT]])
@pytest.mark.parametrize("out", ["thesis", "thesis/chapter.txt", "thesis/chapter.txt/below"])
def test_what_is_not_ours_is_not_replaced(
    command: list[str], out: str, raw: Path, block: Block, place: Path, capsys: Say
) -> None:
    shutil.copytree(block.path, place / "block")
    _write(place / "thesis/chapter.txt", b"years of work")
    assert out in error(capsys, *command, "--out", out)
    assert tree(place / "thesis") == {"chapter.txt": b"years of work"}


def test_fresh_forgets_nothing_for_a_mistake(block: Block, raw: Path, place: Path, capsys: Say) -> None:
    shutil.copytree(block.path, place / "data")
    words = ["train", "vae", *SHORT]
    assert genmodel(*words) == 0
    before = tree(place / "runs")
    (place / "data/8/shard-00000.npy").unlink()
    assert "shard-00000.npy is missing" in error(capsys, *words, "--fresh")
    assert tree(place / "runs") == before


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_damaged_model_is_named(name: str, trained: Path, place: Path, capsys: Say) -> None:
    shutil.copytree(trained, place / "vae")
    path = place / "vae" / name
    path.write_bytes(path.read_bytes()[:-9])
    assert f"vae/{name}" in error(capsys, "sample", "vae")


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda place: None, ["no source at source"]),
        (lambda place: (place / "source").mkdir(), ["source holds no images", "JPEG"]),
        (lambda place: (place / "source").write_bytes(b""), ["source is empty"]),
        (lambda place: _write(place / "source/a/notes.txt", b"hi"), ["source holds no images", "1 other file"]),
        (lambda place: _write(place / "source", b"just text"), ["source", "tar"]),
        (lambda place: _write(place / "source/a/x.png", b"no image"), ["1 of 1 images cannot be used", "a/x.png"]),
    ],
)
def test_sources_that_are_none(make: Any, expected: list[str], block: Block, place: Path, capsys: Say) -> None:
    shutil.copytree(block.path, place / "data")
    before = tree(place / "data")
    make(place)
    line = error(capsys, "prepare", "source", "--out", "data", "--sizes", "16", "--workers", 1)
    assert all(part in line for part in expected), line
    assert tree(place / "data") == before


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_one_unreadable_image_is_listed_and_the_rest_goes_on(raw: Path, place: Path, capsys: Say) -> None:
    for number in range(60):  # 1 of 121 is less than 1%
        shutil.copy(raw / "circle/000.png", raw / f"circle/more-{number}.png")
    (raw / "square/torn.png").write_bytes((raw / "square/000.png").read_bytes()[:60])
    assert genmodel("prepare", raw, "--sizes", "8", "--workers", 1) == 0
    rejects = pd.read_parquet(place / "data/rejects.parquet")
    assert rejects["name"].tolist() == ["square/torn.png"] and rejects["class"].tolist() == ["square"]
    assert rejects["reason"].str.len().min() > 5
    assert len(Block.open(place / "data")) == 120
    assert genmodel("verify") == 0


def test_more_than_a_percent_is_an_error_unless_allowed(raw: Path, block: Block, place: Path, capsys: Say) -> None:
    shutil.copytree(block.path, place / "data")
    before = tree(place / "data")
    (raw / "square/torn.png").write_bytes(b"torn")
    words = ["prepare", raw, "--sizes", "16", "--workers", 1]
    line = error(capsys, *words)
    assert "1 of 61 images cannot be used (square/torn.png: " in line and "--allow-rejects" in line
    assert tree(place / "data") == before
    assert genmodel(*words, "--allow-rejects", "0.05") == 0
    assert len(Block.open(place / "data")) == 60


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--sizes", "4"], ["--sizes", "8 to 4096"]),
        (["--val-fraction", "2"], ["--val-fraction", "between 0 and 1"]),
        (["--allow-rejects", "-1"], ["--allow-rejects", "between 0 and 1"]),
        (["--workers", "-2"], ["--workers", "-2"]),
        (["--out", "raw"], ["raw is there and is no block"]),
    ],
)
def test_mistakes_in_preparing(words: list[str], expected: list[str], raw: Path, place: Path, capsys: Say) -> None:
    before = tree(place)
    line = error(capsys, "prepare", raw, *words)
    assert all(part in line for part in expected), line
    assert tree(place) == before


def test_sizes_that_are_no_numbers(raw: Path, place: Path, capsys: Say) -> None:
    with pytest.raises(SystemExit, match="2"):
        genmodel("prepare", raw, "--sizes", "64;256")
    assert "write sizes as 64 or 64,256, not '64;256'" in capsys.readouterr().err


def test_verify_names_the_damaged_file(block: Block, place: Path, capsys: Say) -> None:
    shutil.copytree(block.path, place / "data")
    shard = place / "data/8/shard-00000.npy"
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)
    assert "data/8/shard-00000.npy" in error(capsys, "verify", "data")


def test_a_changed_block_under_a_reference_is_told(trained: Path, raw: Path, place: Path, capsys: Say) -> None:
    (place / "params.yaml").write_text(PARAMS)
    genmodel("prepare", raw, "--sizes", "8", "--workers", 1)
    genmodel("evaluate", trained, "--params", "params.yaml")
    (raw / "circle/000.png").unlink()
    genmodel("prepare", raw, "--sizes", "8", "--workers", 1)
    line = error(capsys, "evaluate", trained, "--params", "params.yaml")
    assert line.startswith("reference was made for block ") and "make it again" in line


def test_ctrl_c_is_one_line(block: Block, place: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    from genmodel.training import trainer

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", interrupted)
    with pytest.raises(SystemExit, match="130"):
        genmodel("train", "vae", "--data", block.path, *SHORT)
    assert capsys.readouterr().err == "stopped; the same command goes on from here\n"


# everything that the five packages do not require themselves refuses to import
BARE = """
import importlib.metadata as metadata, re, sys

needed, waiting = {"genmodel"}, ["torch", "torchvision", "numpy", "pandas", "pillow"]
while waiting:
    name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
    if name not in needed:
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        needed.add(name)
        waiting += [re.match(r"[\\w.-]+", line)[0] for line in requirements if "extra ==" not in line]

owners = {
    top: {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    for top, names in metadata.packages_distributions().items()
}

class Bare:  # a finder that does not find what a bare machine has not
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        owner = owners.get(name.split(".")[0], needed)
        return self.finder.find_spec(name, path, target) if owner & needed else None

sys.meta_path[:] = [Bare(finder) for finder in sys.meta_path]
for name in "prefect mlflow dvc yaml tqdm sklearn scipy pyarrow safetensors rich".split():
    try:
        __import__(name)
    except ImportError:
        continue
    raise AssertionError(name + " can be imported")

from genmodel.cli import main
short = [word for setting in sys.argv[2:] for word in ("--set", setting)]
main(["prepare", sys.argv[1], "--sizes", "8", "--workers", "2"])
main(["verify"])
for family in ("dcgan", "vae"):
    main(["train", family, *short])
    main(["sample", "models/" + family, "-n", "4", "--out", family + ".png"])
    main(["evaluate", "models/" + family])
"""


@pytest.mark.slow
def test_the_whole_command_line_with_five_packages(raw: Path, place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BARE, str(raw), *TOY],
        cwd=place,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"fd_classifier"') == 2
    assert (place / "vae.png").exists() and (place / "dcgan.png").exists()
