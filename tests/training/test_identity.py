"""What a training is known by: settings that are new or gone, at their default or not."""

import dataclasses
from typing import Any

import pytest

from genmodel.config import run_config
from genmodel.settings import RunConfig, TrainingConfig
from genmodel.training.identity import Identity, differences


def identity(config: RunConfig) -> Identity:
    return Identity(name="toy", config=config, block="b" * 64, code="c" * 64)


def config(**training: Any) -> RunConfig:
    return run_config({"family": "vae", "image_size": 8, "training": training}, "toy")


def with_setting(values: RunConfig, name: str, default: Any, value: Any) -> RunConfig:
    """The same of a version of the code with one setting more."""
    kind = dataclasses.make_dataclass(
        "TrainingConfig", [(name, type(default), default)], bases=(TrainingConfig,), frozen=True, kw_only=True
    )
    return dataclasses.replace(values, training=kind(**dataclasses.asdict(values.training), **{name: value}))


def test_a_new_setting_at_its_default_makes_no_other_training() -> None:
    old = identity(config(images=640))
    new = identity(with_setting(old.config, "lookahead", 3, 3))
    assert "lookahead" in new.as_dict()["config"]["training"]
    assert new.fingerprint == old.fingerprint
    assert differences(old.as_dict(), new) == [] and differences(new.as_dict(), old) == []


def test_a_new_setting_at_another_value_does_and_is_told() -> None:
    old = identity(config())
    new = identity(with_setting(old.config, "lookahead", 3, 4))
    assert new.fingerprint != old.fingerprint
    assert differences(old.as_dict(), new) == ["training.lookahead: 3 -> 4"]


@pytest.mark.parametrize(("setting", "other"), [("images", 640), ("flip", False), ("seed", 1), ("precision", "bf16")])
def test_a_setting_counts_by_its_value_however_it_came_about(setting: str, other: Any) -> None:
    usual = {field.name: field.default for field in dataclasses.fields(TrainingConfig)}[setting]
    assert identity(config(**{setting: usual})).fingerprint == identity(config()).fingerprint
    changed = identity(config(**{setting: other}))
    assert changed.fingerprint != identity(config()).fingerprint
    assert differences(identity(config()).as_dict(), changed) == [f"training.{setting}: {usual} -> {other}"]


def test_what_only_shows_is_no_part_of_it() -> None:
    shown = identity(config(log_every=7, checkpoint_every=9))
    assert shown.fingerprint == identity(config()).fingerprint
    assert differences(identity(config()).as_dict(), shown) == []
