"""What a training is known by: settings that are new or gone, at their default or not."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genmodel.config import run_config
from genmodel.settings import RunConfig, TrainingConfig
from genmodel.training.identity import Identity, differences, is_as_written


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


SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "images": st.sampled_from([640, 2_000_000]),  # one is the default, here and below
        "flip": st.booleans(),
        "ema_half_life": st.sampled_from([0, 0.0, 10_000, 10_000.0]),
        "log_every": st.sampled_from([7, 5_000]),
    },
)


@given(SETTINGS, SETTINGS, st.sampled_from(["b", "d"]), st.sampled_from(["c", "d"]))
def test_settings_as_they_were_written_are_known_again_without_the_family(
    before: dict[str, Any], after: dict[str, Any], block: str, code: str
) -> None:
    """Whatever it takes for the same is the same; and equal texts are always known again."""
    known = json.loads(json.dumps(identity(config(**before)).as_dict()))
    written = {"family": "vae", "image_size": 8, "training": after}
    today = Identity(name="toy", config=config(**after), block=block * 64, code=code * 64)
    same = is_as_written(known, written, today.block, today.code)
    if same:
        assert today.fingerprint == known["fingerprint"]
    if (before, block, code) == (after, "b", "c"):
        assert same


def test_another_size_family_or_type_is_not_as_written() -> None:
    known = identity(config(flip=True)).as_dict()
    written = {"family": "vae", "image_size": 8, "training": {"flip": True}}
    assert is_as_written(known, written, "b" * 64, "c" * 64)
    for other in ({"image_size": 16}, {"family": "dcgan"}, {"training": {"flip": 1}}, {"network": {"latent": 3}}):
        assert not is_as_written(known, written | other, "b" * 64, "c" * 64)
    older = {name: value for name, value in known.items() if name != "chosen"}
    assert not is_as_written(older, written, "b" * 64, "c" * 64)
