"""Settings that the data cannot serve are told all at once, before any training."""

from dataclasses import replace
from pathlib import Path

import pytest

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.fits import check_fits
from genmodel.params import Params, run_config
from genmodel.settings.config import EvaluationConfig, GateConfig


def params(models: int, evaluation: int, extractor: str = "classifier") -> Params:
    values = {"family": "vae", "image_size": models}
    config = EvaluationConfig(image_size=evaluation, extractor=extractor)  # type: ignore[arg-type]
    named = {name: run_config(values, name) for name in ("one", "two")}
    return Params(models=named, evaluation=config, gate=GateConfig())


def block(sizes: list[int], classes: int) -> Block:
    made = Block.__new__(Block)
    made.path, made.sizes, made.classes = Path("data"), sizes, [f"class {number}" for number in range(classes)]
    return made


def said(asked: Params, data: Block) -> str:
    with pytest.raises(ConfigError) as caught:
        check_fits(asked, data)
    return str(caught.value).removeprefix("params.yaml and data do not fit, nothing was trained: ")


def test_what_fits_is_let_through() -> None:
    check_fits(params(16, 16), block([8, 16], 2))
    check_fits(params(16, 16, "pixels"), block([16], 0))


def test_all_places_of_a_size_that_the_block_has_not_are_named_at_once() -> None:
    assert said(params(16, 16), block([32], 2)) == (
        "the block holds 32 px and all models are judged at one size: write 32 at models.one.image_size (16), "
        "models.two.image_size (16), evaluation.image_size (16) (or prepare the data again with --sizes 16)"
    )


def test_models_of_another_size_than_the_evaluations_are_named() -> None:
    asked = params(16, 16)
    asked = replace(asked, models=asked.models | {"two": replace(asked.models["two"], image_size=32)})
    assert said(asked, block([16, 32], 2)) == (
        "the block holds 16, 32 px and all models are judged at one size: write 16 at models.two.image_size (32)"
    )


@pytest.mark.parametrize(("classes", "words"), [(0, "0 classes"), (1, "1 class")])
def test_labels_that_the_extractor_needs_are_told_beside_the_sizes(classes: int, words: str) -> None:
    labels = f"the block has {words} and a classifier needs two: write pixels at evaluation.extractor"
    assert said(params(16, 16), block([16], classes)) == labels
    assert said(params(8, 16), block([16], classes)).endswith(f"; {labels}")
