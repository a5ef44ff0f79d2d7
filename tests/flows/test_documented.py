"""The commands that README.md and docs/ show in blocks, run in their order: in an empty folder those of `genmodel`, in
a fresh clone those of the line. A new one is run without more ado, unless ELSEWHERE says which test does that."""

import io
import re
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genmodel.cli import main
from tests.docs.commands import ROOT, Shown, blocks, shown
from tests.flows.clones import Clone, copy_project

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

# what begins so -> the test that runs it; or else why none does
ELSEWHERE = {
    "make demo|make test|make setup|make lint": ".ci/run",
    "make ui": "tests/flows/test_ui_server.py",
    "make gallery": "hours of training, by the flow that tests/flows/running/test_line.py runs",
    "make help": "tests/docs/test_commands.py",
    ".*make serve": "tests/flows/running/test_schedules.py",
    "genmodel explore|python -m genmodel.cli explore|python -m flows.explore": "tests/exploring/test_page.py",
    "pip install -e": "tests/exploring/test_page.py",
    "torchrun": "tests/training/step/test_distributed.py",
    "python -m benchmarks.recognised": "it judges the demo's models",
    "python -m flows.prepare|.*--dask": "tests/flows/test_prepare.py",
    "dask": "tests/flows/running/test_cluster.py",
    "prefect|export PREFECT_API_URL=http:": "tests/flows/running/test_deployed.py",
    "python -m flows.watch": "tests/flows/arrivals/test_watching.py",
    "python -m flows.serve_model": "tests/flows/test_serve_model.py",
    "mlflow models serve|curl|export MLFLOW_TRACKING_URI=sqlite": "tests/flows/registry/test_shipped_server.py",
    "python -m flows.registry (approve|refuse)": "tests/flows/champion/test_approval.py",
    "python -m flows.registry rollback": "tests/flows/champion/test_rollback.py",
    "git worktree|python -m flows.registry files|cd |dvc config|dvc checkout": "tests/flows/registry/test_lineage.py",
    "python -m flows.gc --remote|dvc pull|dvc remote add --default store": "tests/flows/test_remotes.py",
    "cp secrets|docker|createdb|set -a|PREFECT_API_DATABASE|MLFLOW_AUTH": "tests/flows/test_team.py",
    "export (PREFECT|MLFLOW|AWS)|dvc remote (add|modify).* team": "tests/flows/test_team.py",
    "python -m flows.retrain && ": "tests/flows/test_team.py",
}
# smaller than shown: what a newcomer's machine takes hours for
SMALLER = {
    "ILSVRC2012_img_train.tar": "train.tar",  # under its own name it must have its 148 GB
    "--sizes 64": "--sizes 16",
    "--set images=25000000 --set batch_size=512": "--params params.yaml",
    "--params params.yaml --set images=500000": "--params params.yaml --set images=48",
    "evaluate models/dcgan --data data": "evaluate models/dcgan --data data --params params.yaml",
    'genmodel.open_block("data"))': 'genmodel.open_block("data"), small)',
    "--since 2026-05-31": f"--since {datetime.now(UTC):%Y-%m-%d}",  # when the clone has a champion
}
TINY = {  # networks that draw in no time; the families' defaults are for a GPU
    "dcgan": "base_channels: 4",
    "vae": "base_channels: 4, latent_dim: 4",
    "pixelcnn": "base_channels: 6, blocks: 1, halvings: 1, components: 3",
    "r3gan": "base_channels: 16, max_channels: 16, blocks: 1, latent_dim: 4",
    "flow": "base_channels: 8, max_channels: 8, blocks: 1, steps: 2",
    "infogan": "base_channels: 4, hidden: 16",
}
SETTINGS = "evaluation: {image_size: 16, samples: 16, extractor: pixels}\nmodels:\n" + "".join(
    f"  {name}: {{family: {name}, image_size: 16, network: {{{network}}}, training: {{images: 32, batch_size: 16}}}}\n"
    for name, network in TINY.items()
)


def smaller(text: str) -> str:
    for what, instead in SMALLER.items():
        text = text.replace(what, instead)
    return text


def to_run(science: bool) -> Iterator[Shown]:
    """The commands that are run here: of `genmodel`, or of the line. Of those in sentences, README's."""
    for each in shown():
        if each.mentioned and (each.page != "README.md" or each.text.startswith("genmodel")):
            continue
        of_science = "genmodel.cli" in each.text or each.text.startswith("genmodel")
        if of_science == science and not any(re.match(pattern, each.text) for pattern in ELSEWHERE):
            yield each


@pytest.mark.parametrize("place", ELSEWHERE.values())
def test_what_is_run_elsewhere_is(place: str) -> None:
    assert " " in place or (ROOT / place).exists()


def test_no_exception_outlives_its_command() -> None:
    texts = [each.text for each in shown()]
    for pattern in ELSEWHERE:
        for each in pattern.split("|") if "(" not in pattern else [pattern]:
            assert any(re.match(each, text) for text in texts), each


def photo(seed: int, size: int) -> bytes:
    """A PNG of a bright disk before noise."""
    noise = np.random.default_rng(seed)
    image = noise.integers(0, 60, (size, size, 3), dtype=np.uint8)
    rows, columns = np.ogrid[:size, :size]
    image[(rows - size / 2) ** 2 + (columns - size / 2) ** 2 < (size / (3 + seed % 3)) ** 2] += 150
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def lay_out(folder: Path) -> None:
    """What the commands take from their reader: ImageNet's archive, photos, a mask."""
    with tarfile.open(folder / "train.tar", "w") as archive:
        for number, name in enumerate(("n01440764", "n01443537")):
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w") as images:
                for image in range(24):
                    content = photo(number * 24 + image, 32)
                    member = tarfile.TarInfo(f"{name}_{image}.JPEG")
                    member.size = len(content)
                    images.addfile(member, io.BytesIO(content))
            member = tarfile.TarInfo(f"{name}.tar")
            member.size = len(inner.getvalue())
            archive.addfile(member, io.BytesIO(inner.getvalue()))
    for name in ("photo.png", "image.png"):
        (folder / name).write_bytes(photo(1, 16))
    (folder / "small.png").write_bytes(photo(1, 8))
    mask = np.zeros((16, 16), np.uint8)
    mask[8:] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "params.yaml").write_text(SETTINGS)


@pytest.mark.usefixtures("few_pictures")
def test_genmodel_in_an_empty_folder(place: Path) -> None:
    lay_out(place)
    for each in to_run(science=True):
        words = smaller(each.text).removeprefix("python -m genmodel.cli ").removeprefix("genmodel ").split()
        for word in words:
            name = word.removeprefix("models/")
            if name in TINY and word != name and not (place / word).exists():
                main(["train", name, "--params", "params.yaml"])
        assert main(words) == 0, each
        left = f"{each.text} {each.comment.partition(';')[0]}"  # after a semicolon: what else might be
        for name in re.findall(r"(?<!\S)\w[\w-]*\.(?:png|gif|gm|gmc|onnx)\b", left):
            assert (place / name).exists(), f"{each} leaves no {name}"
    (snippet,) = (block.text for block in blocks() if block.page == "README.md" and "import genmodel" in block.text)
    small = "from genmodel.params import read_params\nsmall = read_params('params.yaml').evaluation\n"
    found: dict[str, object] = {}
    exec(small.replace("'params.yaml'", "__import__('pathlib').Path('params.yaml')") + smaller(snippet), found)
    images = found["images"]
    assert isinstance(images, np.ndarray) and images.dtype == np.uint8 and images.shape == (16, 16, 16, 3)


def test_the_line_in_a_fresh_clone(tmp_path: Path) -> None:
    """As README's second way: the data first, then `dvc repro`. The leaderboard is laid out as README shows it."""
    clone = Clone(tmp_path / "clone")
    copy_project(clone.root, {"vae"})
    main(["prepare", "digits", "--out", str(clone.root / "data"), "--sizes", "16"])  # what data.dvc names
    said = {}
    for each in {each.text: each for each in to_run(science=False)}.values():
        (words,) = each.parts
        said[each.text] = clone.run(*smaller(" ".join(words)).split())
    told = clone.run(*["python", "-m", "flows.retrain"])
    assert told.startswith("nothing changed")
    (board,) = (block.text for block in blocks() if block.text.startswith("Leaderboard"))
    assert labels(told) == labels(board)
    assert (
        said["python -m flows.retrain --plan"].strip()
        and "train@vae" in said["python -m flows.retrain --why train@vae"]
    )
    assert "There was no champion" in said["python -m flows.registry history"]
    snippet = next(block.text for block in blocks() if block.page == "README.md" and "mlflow.pyfunc" in block.text)
    code = f"{snippet}\nassert images.dtype == numpy.uint8 and images.shape == (16, 16, 16, 1), images.shape"
    clone.run(sys.executable, "-c", code)


def labels(text: str) -> list[str]:
    """The first headings of the table that a run ends with, and what the lines below it begin with."""
    lines = text[text.index("Leaderboard") :].splitlines()
    headings = next(line.split()[:3] for line in lines if line.split()[:1] == ["rank"])
    below = re.compile("samples |page |over time |champion |compare ")
    return headings + [found[0].strip() for line in lines if (found := below.match(line))]
