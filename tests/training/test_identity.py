"""What a training is known by: settings that are new or gone, at their default or not."""

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genmodel.params import run_config
from genmodel.settings.config import RunConfig, TrainingConfig
from genmodel.settings.schedule import Schedule
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
    return dataclasses.replace(values, training=kind(**vars(values.training), **{name: value}))


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
        "ema_half_life": st.sampled_from(
            [0, 0.0, 10_000, 10_000.0, {"start": 10_000}, {"start": 9, "end": 3, "over": 5, "shape": "cosine"}]
        ),
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


@dataclasses.dataclass(frozen=True)
class PartConfig:
    width: int = 3
    gamma: float | Schedule = Schedule(2.0, 0.5, 100)


@dataclasses.dataclass(frozen=True)
class OlderPartConfig:
    width: int = 3


RATE, PART = Schedule(1.0, 0.1, 1000), PartConfig(5)


def with_rate(value: Any) -> Identity:
    return identity(with_setting(config(), "rate", RATE, value))


def with_part(value: Any, default: Any = PART) -> Identity:
    return identity(with_setting(config(), "part", default, value))


def test_a_nested_setting_at_its_default_makes_no_other_training() -> None:
    old = identity(config())
    for new in (with_rate(Schedule(1.0, 0.1, 1000)), with_part(PartConfig(5, Schedule(2.0, 0.5, 100)))):
        assert new.fingerprint == old.fingerprint
        assert differences(old.as_dict(), new) == []


def test_a_schedule_and_its_plain_number_are_two_settings() -> None:
    values = [Schedule(1.0, 0.1, 1000), Schedule(1.0), 1.0, Schedule(1.0, 0.1, 1000, "linear"), Schedule(1.0, 0.1, 999)]
    assert len({with_rate(value).fingerprint for value in values}) == len(values)
    plain, constant = config(ema_half_life=10_000), config(ema_half_life={"start": 10_000})
    assert identity(plain).fingerprint == identity(config()).fingerprint != identity(constant).fingerprint
    start = "{'start': 10000.0, 'end': None, 'over': 0, 'shape': 'cosine'}"
    assert differences(identity(plain).as_dict(), identity(constant)) == [f"training.ema_half_life: 10000.0 -> {start}"]


def test_a_difference_deep_down_is_told_by_its_place() -> None:
    told = json.loads(json.dumps(with_part(PART).as_dict()))
    assert differences(told, with_part(PART)) == []
    changed = with_part(PartConfig(5, Schedule(2.0, 0.25, 100)))
    assert differences(told, changed) == ["training.part.gamma.end: 0.5 -> 0.25"]


def test_a_setting_that_is_new_inside_another_makes_no_other_training() -> None:
    """Wherever it is: over the default, in place of none, in a list."""
    pairs = [(OlderPartConfig(7), PartConfig(7)), ([OlderPartConfig(7)], [PartConfig(7)])]
    for old, new in pairs:
        for before, after in [(with_part(old, None), with_part(new, None))]:
            assert before.fingerprint == after.fingerprint
    old, new = with_part(OlderPartConfig(7), OlderPartConfig(5)), with_part(PartConfig(7))
    assert old.fingerprint == new.fingerprint != with_part(PartConfig(7, 1.0)).fingerprint
    assert differences(json.loads(json.dumps(old.as_dict())), new) == []


@pytest.mark.parametrize(
    ("trained", "written", "same"),
    [
        (RATE, {}, True),
        (RATE, {"rate": {"start": 1}}, False),  # a constant
        (RATE, {"rate": {"start": 1, "end": 0.1, "over": 1000, "shape": "cosine"}}, True),
        (RATE, {"rate": {"start": 1, "end": 0.1, "over": 1000}}, False),  # cannot be told
        (RATE, {"rate": 1}, False),
        (Schedule(2.0), {"rate": {"start": 2}}, True),
        (Schedule(2.0), {"rate": {"start": 2, "end": 1, "over": 1}}, False),
        (Schedule(2.0), {}, False),
        (Schedule(2.0, 0.1, 1000), {"rate": {"start": 2}}, False),
        (Schedule(2.0, 0.1, 1000), {"rate": {"start": 2, "end": 0.1, "over": 1000}}, True),
        (Schedule(2.0), {"rate": 2}, False),
        (2.0, {"rate": 2}, True),
        (2.0, {"rate": {"start": 2}}, False),
        ({"a": 1.0, "b": 2.0}, {"rate": {"a": 1, "b": 2}}, True),
        ({"a": 1.0, "b": 2.0}, {"rate": {"a": 1}}, False),
        ([True], {"rate": [1]}, False),
    ],
)
def test_nested_settings_as_they_were_written_are_known_again(trained: Any, written: Any, same: bool) -> None:
    known = json.loads(json.dumps(with_rate(trained).as_dict()))
    model = {"family": "vae", "image_size": 8, "training": written}
    assert is_as_written(known, model, "b" * 64, "c" * 64) is same
