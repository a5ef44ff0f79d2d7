"""Settings that the data cannot serve are told all at once, before any training."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from genmodel.data.block import Block
from genmodel.errors import ConfigError
from genmodel.fits import check_fits, memory_errors, repeats
from genmodel.params import Params, run_config
from genmodel.settings.config import EvaluationConfig, GateConfig
from genmodel.sizes import Size


def params(models: int | str, evaluation: int | str, extractor: str = "classifier") -> Params:
    values = {"family": "vae", "image_size": models}
    config = EvaluationConfig(image_size=evaluation, extractor=extractor)  # type: ignore[arg-type]
    named = {name: run_config(values, name) for name in ("one", "two")}
    return Params(models=named, evaluation=config, gate=GateConfig())


def block(sizes: Sequence[int | str], classes: int) -> Block:
    made = Block.__new__(Block)
    made.path, made.sizes, made.channels = Path("data"), [Size.of(size) for size in sizes], 3
    made.classes = [f"class {number}" for number in range(classes)]
    return made


def said(asked: Params, data: Block) -> str:
    with pytest.raises(ConfigError) as caught:
        check_fits(asked, data)
    return str(caught.value).removeprefix("params.yaml does not fit data, nothing was trained: ")


def test_what_fits_is_let_through() -> None:
    check_fits(params(16, 16), block([8, 16], 2))
    check_fits(params(16, 16, "pixels"), block([16], 0))


def test_all_places_of_a_size_that_the_block_has_not_are_named_at_once() -> None:
    assert said(params(16, 16), block([32], 2)) == (
        "the block holds 32 px and all models are judged at one size: set models.one.image_size (16), "
        "models.two.image_size (16), evaluation.image_size (16) to 32 (or prepare the data again with --sizes 16)"
    )


def test_models_of_another_size_than_the_evaluations_are_named() -> None:
    asked = params(16, 16)
    asked = replace(asked, models=asked.models | {"two": replace(asked.models["two"], image_size=Size(32, 32))})
    assert said(asked, block([16, 32], 2)) == (
        "the block holds 16, 32 px and all models are judged at one size: set models.two.image_size (32) to 16"
    )


def test_rectangles_are_written_width_first() -> None:
    check_fits(params("32x16", "32x16"), block([16, "32x16"], 2))
    assert said(params("16x32", "32x16"), block([16, "32x16"], 2)) == (
        "the block holds 16, 32x16 px and all models are judged at one size: set models.one.image_size "
        "(16x32), models.two.image_size (16x32) to 32x16"
    )


def test_a_size_that_a_family_cannot_do_is_told_with_the_nearest_that_it_can() -> None:
    near = "vae cannot make 30 px images: it halves both sides until the shorter is 4 to 7, and can make 28 or 32"
    assert said(params(30, 30), block([30], 2)) == f"models.one, models.two: {near}"


def test_of_the_blocks_sizes_one_that_all_families_can_do_is_advised() -> None:
    assert said(params(16, 16), block([30, 32], 2)) == (
        "the block holds 30, 32 px and all models are judged at one size: set models.one.image_size (16), "
        "models.two.image_size (16), evaluation.image_size (16) to 32 (or prepare the data again with --sizes 16)"
    )


@pytest.mark.parametrize(("classes", "has"), [(0, "none"), (1, "1")])
def test_a_conditional_model_of_a_block_without_classes_is_told_before_any_training(classes: int, has: str) -> None:
    asked = params(16, 16, "pixels")
    conditional = run_config({"family": "dcgan", "image_size": 16, "network": {"conditional": True}}, "third")
    asked = replace(asked, models=asked.models | {"third": conditional})
    assert said(asked, block([16], classes)) == (
        f"models.third: dcgan cannot be conditional on the classes of a block that has {has}: set network.conditional "
        "to false, or prepare the data with classes"
    )
    check_fits(asked, block([16], 2))


@pytest.mark.parametrize(("classes", "words"), [(0, "0 classes"), (1, "1 class")])
def test_labels_that_the_extractor_needs_are_told_beside_the_sizes(classes: int, words: str) -> None:
    labels = f"the block has {words} and a classifier needs two: set evaluation.extractor to pixels"
    assert said(params(16, 16), block([16], classes)) == labels
    assert said(params(8, 16), block([16], classes)).endswith(f"; {labels}")


def test_classes_that_a_network_is_to_learn_are_told_before_the_line_starts() -> None:
    asked = params(16, 16, "pixels")
    values = {"family": "improved_gan", "image_size": 16, "network": {"semi_supervised": True}}
    asked = replace(asked, models=asked.models | {"two": run_config(values, "two")})
    check_fits(asked, block([16], 2))
    assert said(asked, block([16], 0)) == (
        "models.two: network.semi_supervised needs a block with at least two classes, and this one has 0: leave it "
        "out, or prepare the data with classes"
    )


def test_a_batch_that_is_larger_than_the_train_split_is_told() -> None:
    def told(size: int, images: int) -> str:
        data = block([16], 2)
        data.splits = np.array([0] * images + [1] * 5000)
        return repeats(run_config({"family": "vae"}, "vae", [f"batch_size={size}"]).training, data)

    assert told(1000, 1000) == ""
    assert told(1001, 1000) == (
        "training.batch_size (1,001) is more than the 1,000 images of the train split: each step shows some of them"
        " more than once; set it to 1000 or less"
    )
    assert "the 1 image of" in told(64, 1)


def test_what_does_not_fit_into_memory_is_one_line_with_what_to_change() -> None:
    config = run_config({"family": "vae"}, "vae", ["batch_size=4096"]).training
    with pytest.raises(ConfigError) as caught, memory_errors("vae", config):
        torch.empty(10**15)
    assert str(caught.value) == (
        "vae does not fit into memory: lower training.batch_size (4,096), raise training.accumulate (1), or make its"
        " network smaller"
    )
    with pytest.raises(RuntimeError, match="something else"), memory_errors("vae", config):
        raise RuntimeError("something else")
