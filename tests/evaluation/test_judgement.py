"""Sets of images of known order are ranked in it by the figure that ranks models, and by the one without labels."""

import re
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.judgement import distances, in_order, judges, ladders
from genmodel.data.block import Block
from genmodel.data.making.make import prepare
from genmodel.evaluation.extractors.classifier import Classifier
from genmodel.evaluation.extractors.features import image_batches
from genmodel.settings.config import EvaluationConfig
from genmodel.sizes import Size

LADDERS = ["blurred", "noise", "checkerboard", "mixed with noise", "classes dropped", "copies"]
OF_TEXTURE = LADDERS[:4]
SETS = {  # archive (empty: embedded), size, members: a class each
    "digits": ("", 16, ""),
    "CIFAR-10": ("cifar10-train.tar.gz", 32, r"train/(\w+)/00\d\d\.jpg"),
    "Tiny ImageNet": ("tiny-imagenet-a.tar.gz", 64, r"(n01\d+)/n\d+_[1-9]?\d\.JPEG"),
}


def some(archive: Path, pattern: str, out: Path) -> Path:
    """The members of an archive whose names match `pattern`, in a folder for each first group."""
    with tarfile.open(archive) as tar:
        for member in tar:
            if (found := re.search(pattern + "$", member.name)) and (handle := tar.extractfile(member)):
                (out / found[1]).mkdir(parents=True, exist_ok=True)
                (out / found[1] / Path(member.name).name).write_bytes(handle.read())
    return out


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_sets_of_known_order_are_ranked_in_it(name: str, shared_data: Callable[[str], Path], tmp_path: Path) -> None:
    archive, side, pattern = SETS[name]
    source = str(some(shared_data(archive), pattern, tmp_path / "raw")) if archive else "digits"
    block, size = prepare(source, tmp_path / "data", [side], workers=1, val_fraction=0.5), Size.of(side)
    config = EvaluationConfig(image_size=size, classifier_images=2000)
    classifier = Classifier.make(block, size, config, "cpu")
    real, held_out = (images(block, size, split) for split in ("train", "val"))
    steps = ladders(held_out, torch.as_tensor(block.labels[block.rows("val")]))
    assert list(steps) == LADDERS
    found = judges(classifier, real)
    for judge, asked in (("classifier", LADDERS), ("wavelets", OF_TEXTURE)):
        for ladder, values in distances(found[judge], real, {ladder: steps[ladder] for ladder in asked}).items():
            assert in_order(values), f"{ladder} by {judge}: {values}"


def images(block: Block, size: Size, split: str) -> torch.Tensor:
    return torch.cat(list(image_batches(block, size, block.rows(split))))  # type: ignore[arg-type]
