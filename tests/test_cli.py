"""`genmodel train`, `sample` and `evaluate` on toy data; every mistake is one line, and harms nothing."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from PIL import Image

from genmodel.cli import main
from genmodel.data.block import Block
from genmodel.models.families import FAMILIES

TOY = ["image_size=8", "images=64", "batch_size=32", "base_channels=4", "log_every=32"]
SHORT = [word for setting in TOY for word in ("--set", setting)]
PARAMS = """
models:
  small: {family: vae, image_size: 8, network: {latent_dim: 4, base_channels: 4}, training: {images: 64}}
evaluation: {samples: 16, classifier_images: 64, image_size: 8}
"""

Say = pytest.CaptureFixture[str]
Mistake = Callable[..., str]


def genmodel(*words: object) -> int:
    return main([str(word) for word in words])


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="session")
def trained(block: Block, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished toy VAE."""
    folder = tmp_path_factory.mktemp("trained")
    genmodel("train", "vae", "--data", block.path, "--out", folder / "vae", "--runs", folder / "runs", *SHORT)
    return folder / "vae"


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_train_then_sample(family: str, block: Block, place: Path, capsys: Say) -> None:
    assert genmodel("train", family, "--data", block.path, *SHORT) == 0
    out = place / "models" / family
    assert {"weights.safetensors", "config.json", "history.csv", "samples"} <= {path.name for path in out.iterdir()}
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
    said = capsys.readouterr()
    told = json.loads(said.out)
    learnt = told["conditions"]["extractor"]["accuracy"], told["conditions"]["extractor"]["chance"]
    assert ("warning: The extractor has learnt too little" in said.err) == (
        learnt[0] < 3 * learnt[1] / (1 + 2 * learnt[1])
    )
    assert told["conditions"]["n_samples"] == 16
    assert told["figures"]["fd_classifier"] > 0 and told["figures"]["bits_per_dim"] > 0
    assert told["timing"]["seconds"] > 0
    assert (place / "reference" / "reference.json").exists()


def test_a_model_of_params_yaml(block: Block, place: Path, mistake: Mistake) -> None:
    (place / "params.yaml").write_text(PARAMS)
    words = ["train", "small", "--data", block.path, "--params", "params.yaml"]
    assert genmodel(*words, "--set", "seed=7", "--set", "training.images=32") == 0
    config = json.loads((place / "models/small/config.json").read_text())
    assert (config["name"], config["config"]["family"]) == ("small", "vae")
    assert config["config"]["training"]["seed"] == 7 and config["config"]["training"]["images"] == 32
    words[1] = "smal"
    assert mistake(*words) == "params.yaml has no model 'smal', only small"


@pytest.mark.parametrize("command", ["prepare", "verify", "train", "sample", "evaluate"])
def test_help_has_defaults_and_an_example(command: str, capsys: Say) -> None:
    with pytest.raises(SystemExit) as caught:
        genmodel(command, "--help")
    assert caught.value.code == 0
    told = capsys.readouterr().out
    assert "(default: " in told
    assert "None" not in told
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
        (["train", "vae", "--set", "image_size=13"], ["vae cannot make 13 px images", "can make 12 or 14"]),
        (
            ["train", "dcgan", "--set", "image_size=64x17"],
            ["dcgan cannot make 64x17 px images", "can make 64x16 or 64x20"],
        ),
        (["train", "vae", "--set", "image_size=32"], ["has 8 px, not 32", "--sizes 8,32"]),
        (["train", "vae", "--data", "nowhere"], ["no block at nowhere", "genmodel prepare"]),
        (["train", "vae", "--params", "nowhere.yaml"], ["nowhere.yaml is missing"]),
        (["train", "vae", "--device", "cuda"], ["--device cuda", "no GPU", "--device cpu"]),
        (["train", "vae", "--device", "cuda:1"], ["--device cuda:1", "no GPU"]),
        (["train", "vae", "--device", "gpu"], ["--device gpu", "cpu, cuda"]),
    ],
)
def test_mistakes_in_training(
    words: list[str], expected: list[str], block: Block, place: Path, mistake: Mistake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    old = place / "models" / words[1] / "config.json"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"a good model")
    line = mistake(*words, *(["--data", block.path] if "--data" not in words else []))
    assert all(part in line for part in expected), line
    assert tree(place) == {f"models/{words[1]}/config.json": b"a good model"}, "nothing made, nothing lost"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["sample", "nowhere"], ["nowhere/config.json is missing", "train"]),
        (["sample", "MODEL", "-n", "0"], ["-n", "at least 1", "0"]),
        (["sample", "MODEL", "--seed", "-1"], ["--seed", "-1"]),
        (["sample", "MODEL", "--device", "cuda"], ["--device cuda", "no GPU"]),
        (["sample", "MODEL", "--out", "folder"], ["cannot write folder", "folder is a folder"]),
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
    mistake: Mistake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (place / "folder").mkdir()
    (place / "grid.png").write_bytes(b"a good picture")
    named = {"MODEL": trained, "DATA": block.path}
    line = mistake(*(named.get(word, word) for word in words))
    assert all(part in line for part in expected), line
    assert tree(place) == {"grid.png": b"a good picture"}


@pytest.mark.parametrize("command", [["prepare", "raw", "--sizes", "8"], ["train", "vae", "--data", "block", *SHORT]])
@pytest.mark.parametrize("out", ["thesis", "thesis/chapter.txt", "thesis/chapter.txt/below"])
def test_what_is_not_ours_is_not_replaced(
    command: list[str], out: str, raw: Path, block: Block, place: Path, mistake: Mistake
) -> None:
    shutil.copytree(block.path, place / "block")
    (place / "thesis").mkdir()
    (place / "thesis/chapter.txt").write_bytes(b"years of work")
    expected = "thesis/chapter.txt is a file" if out.endswith("below") else f"{out} exists and is not a "
    assert expected in mistake(*command, "--out", out)
    assert tree(place / "thesis") == {"chapter.txt": b"years of work"}


def test_fresh_forgets_nothing_for_a_mistake(block: Block, raw: Path, place: Path, mistake: Mistake) -> None:
    shutil.copytree(block.path, place / "data")
    words = ["train", "vae", *SHORT]
    assert genmodel(*words) == 0
    before = tree(place / "runs")
    (place / "data/8/shard-00000.npy").unlink()
    assert "shard-00000.npy is missing" in mistake(*words, "--fresh")
    assert tree(place / "runs") == before


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_damaged_model_is_named(name: str, trained: Path, place: Path, mistake: Mistake) -> None:
    shutil.copytree(trained, place / "vae")
    path = place / "vae" / name
    path.write_bytes(path.read_bytes()[:-9])
    assert f"vae/{name}" in mistake("sample", "vae")


def test_a_changed_block_under_a_reference_is_told(trained: Path, raw: Path, place: Path, mistake: Mistake) -> None:
    (place / "params.yaml").write_text(PARAMS)
    genmodel("prepare", raw, "--sizes", "8", "--workers", 1)
    genmodel("evaluate", trained, "--params", "params.yaml")
    (raw / "circle/000.png").unlink()
    genmodel("prepare", raw, "--sizes", "8", "--workers", 1)
    line = mistake("evaluate", trained, "--params", "params.yaml")
    assert line.startswith("reference was made for block ") and "make it again" in line


def test_ctrl_c_is_one_line(block: Block, place: Path, capsys: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    from genmodel.training import trainer

    def interrupted(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(trainer, "train", interrupted)
    with pytest.raises(SystemExit, match="130"):
        genmodel("train", "vae", "--data", block.path, *SHORT)
    assert capsys.readouterr().err == "stopped; run the same command again to continue\n"


@pytest.mark.slow
@pytest.mark.parametrize(("umask", "open_to_others"), [(0o000, 0o055), (0o077, 0o000)])
def test_others_may_write_nothing_that_a_command_made(umask: int, open_to_others: int, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "genmodel.cli",
        "prepare",
        "digits",
        "--out",
        "data",
        "--sizes",
        "8",
        "--workers",
        "1",
    ]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    subprocess.run(command, cwd=tmp_path, env=environment, umask=umask, check=True, capture_output=True)
    made = list(tmp_path.rglob("*"))
    assert len(made) > 4
    for path in made:
        assert path.stat().st_mode & 0o077 & ~open_to_others == 0, path


def test_a_reader_that_has_gone_is_no_error() -> None:
    code = "from genmodel.errors import user_errors\nwith user_errors():\n    for _ in range(99_999): print('a line')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == b"a line\n"
        process.stdout.close()
        assert (process.stderr.read(), process.wait(60)) == (b"", 141)
