"""Settings within settings, in params.yaml and on the command line."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import pytest

from genmodel.errors import ConfigError
from genmodel.models import families
from genmodel.params import run_config
from genmodel.settings.config import Range, RunConfig, chosen
from genmodel.settings.schedule import Schedule


@dataclass(frozen=True)
class PartConfig:
    width: Annotated[int, Range(1)] = 3
    gamma: Annotated[float | Schedule, Range(0, 9)] = Schedule(2.0, 0.5, 100)


@dataclass(frozen=True, kw_only=True)
class NestedConfig:
    gamma: Annotated[float | Schedule, Range(0)] = 0.1
    falling: Annotated[float | Schedule, Range(0)] = Schedule(1.0, 0.1, 1000)
    part: PartConfig = PartConfig(width=5)
    other: PartConfig | None = None
    betas: tuple[float, float] = (0.5, 0.99)
    widths: Annotated[tuple[int, ...], Range(1)] = (8, 16)
    parts: list[PartConfig] = field(default_factory=list)
    weights: dict[str, Annotated[float, Range(0)]] = field(default_factory=dict)
    limit: Literal["auto"] | float = "auto"
    seed: int = 0  # of the same name as one of `training`


@pytest.fixture
def nested(monkeypatch: pytest.MonkeyPatch) -> None:
    """A family `nested` whose network has settings of every kind."""
    monkeypatch.setitem(families.FAMILIES, "nested", "somewhere")
    monkeypatch.setattr(families, "load_family", lambda _: SimpleNamespace(Config=NestedConfig))


def config_of(network: Any, *overrides: str) -> RunConfig:
    return run_config({"family": "nested", "network": network}, "params.yaml: models.x", overrides)


def network_of(network: Any, *overrides: str) -> NestedConfig:
    config: NestedConfig = config_of(network, *overrides).network
    return config


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ({}, NestedConfig()),
        ({"gamma": 2}, NestedConfig(gamma=2.0)),
        ({"gamma": {"start": 2, "end": 0, "over": 50}}, NestedConfig(gamma=Schedule(2.0, 0.0, 50))),
        ({"falling": 1}, NestedConfig(falling=1.0)),
        ({"falling": {"start": 1}}, NestedConfig(falling=Schedule(1.0))),  # a value, written whole
        ({"part": {"gamma": 1}}, NestedConfig(part=PartConfig(5, 1.0))),  # over its default
        ({"other": {"gamma": 1}}, NestedConfig(other=PartConfig(3, 1.0))),
        ({"other": None}, NestedConfig()),
        ({"betas": [0, 1]}, NestedConfig(betas=(0.0, 1.0))),
        ({"widths": []}, NestedConfig(widths=())),
        ({"parts": [{"width": 2}, {}]}, NestedConfig(parts=[PartConfig(2), PartConfig()])),
        ({"weights": {"a": 1}}, NestedConfig(weights={"a": 1.0})),
        ({"limit": 3}, NestedConfig(limit=3.0)),
    ],
)
def test_settings_nest_and_come_back_from_json(written: Any, meant: NestedConfig) -> None:
    config = config_of(written)
    assert config.network == meant
    again = run_config(json.loads(json.dumps(config.as_dict())), "again")
    assert again == config and again.as_dict() == json.loads(json.dumps(config.as_dict()))
    assert network_of(chosen(meant)) == meant, "what is at its default may be left out"
    assert isinstance(config.network.gamma, float | Schedule) and type(config.network.betas[0]) is float


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"gamma": {"start": -1}}, "gamma.start: must be at least 0, not -1.0"),
        ({"gamma": {"start": 1, "end": -1, "over": 5}}, "gamma.end: must be at least 0, not -1.0"),
        ({"gamma": -1}, "gamma: must be at least 0, not -1.0"),
        ({"gamma": {"start": 1, "end": 2}}, r"gamma: a schedule needs both end and over \(the images"),
        ({"gamma": {"start": 1, "over": 2}}, "gamma: a schedule needs both end and over"),
        ({"gamma": {"end": 1, "over": 2}}, "gamma: start is missing"),
        ({"gamma": {"start": 1, "ende": 2}}, "gamma: unknown key 'ende'; did you mean 'end'"),
        ({"gamma": {"start": 1, "zzz": 2}}, "gamma: unknown key 'zzz'; known keys: start, end, over, shape$"),
        ({"gamma": {"start": 1, "end": 2, "over": 0.5}}, "gamma.over: must be a whole number, not 0.5"),
        ({"gamma": {"start": True}}, "gamma.start: must be a number, not True"),
        ({"gamma": {"start": 1, "shape": "cosin"}}, "gamma.shape: must be one of cosine, linear, not 'cosin'; did you"),
        ({"gamma": {"start": 1, "shape": "step"}}, "gamma.shape: must be one of cosine, linear, not 'step'$"),
        ({"gamma": "2e-4"}, r"gamma: must be a number or a mapping \(start, end, over, shape\), not '2e-4' \(in YAML"),
        ({"gamma": [1]}, r"gamma: must be a number or a mapping \(start, end, over, shape\), not \[1\]$"),
        ({"gamma": float("inf")}, "gamma: must be a finite number, not inf"),
        ({"part": None}, r"part: must be a mapping \(width, gamma\), not None"),
        ({"part": {"width": 0}}, "part.width: must be at least 1, not 0"),
        ({"part": {"gamma": {"start": 10}}}, "part.gamma.start: must be between 0 and 9, not 10"),
        ({"other": 3}, r"other: must be a mapping \(width, gamma\) or null, not 3"),
        ({"betas": [0.5]}, r"betas: must be a list of 2 items, not \[0.5\]"),
        ({"betas": [0.5, "x"]}, "betas.1: must be a number, not 'x'"),
        ({"betas": 0.5}, "betas: must be a list, not 0.5"),
        ({"widths": [4, 0]}, "widths.1: must be at least 1, not 0"),
        ({"parts": [{}, {"with": 2}]}, "parts.1: unknown key 'with'; did you mean 'width'"),
        ({"weights": {"a": -1}}, "weights.a: must be at least 0, not -1.0"),
        ({"weights": {1: 1}}, "weights: the key 1 must be text"),
        ({"limit": "auti"}, "limit: must be one of auto or a number, not 'auti'; did you mean 'auto'"),
        ({"gama": 1}, "network: unknown key 'gama'; did you mean 'gamma'"),
    ],
)  # fmt: skip
def test_a_mistake_deep_down_is_one_line_that_names_the_place(written: Any, message: str) -> None:
    place = r"^params.yaml: models.x.network" + ("" if message.startswith("network") else r"\.")
    with pytest.raises(ConfigError, match=place + message.removeprefix("network")) as caught:
        config_of(written)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("written", "overrides", "meant"),
    [
        ({}, ["network.gamma=0.5"], NestedConfig(gamma=0.5)),
        ({"gamma": {"start": 2, "end": 1, "over": 9}}, ["gamma=0.5"], NestedConfig(gamma=0.5)),
        ({"gamma": {"start": 2, "end": 1, "over": 9}}, ["gamma.start=3"], NestedConfig(gamma=Schedule(3.0, 1.0, 9))),
        ({"gamma": 5}, ["gamma.start=3"], NestedConfig(gamma=Schedule(3.0))),
        ({}, ["gamma.start=3", "gamma.end=1", "gamma.over=9"], NestedConfig(gamma=Schedule(3.0, 1.0, 9))),
        ({}, ['gamma={"start": 3}', "gamma.shape=linear"], NestedConfig(gamma=Schedule(3.0, shape="linear"))),
        ({}, ["falling.start=0.05"], NestedConfig(falling=Schedule(0.05, 0.1, 1000))),  # the rest of the default stays
        ({"falling": 2}, ["falling.start=0.05"], NestedConfig(falling=Schedule(0.05))),
        ({}, ["part.gamma.end=1"], NestedConfig(part=PartConfig(5, Schedule(2.0, 1.0, 100)))),
        ({"part": {"width": 7}}, ["part.gamma.end=1"], NestedConfig(part=PartConfig(7, Schedule(2.0, 1.0, 100)))),
        ({}, ["other.width=2"], NestedConfig(other=PartConfig(2))),
        ({"other": {}}, ["other=null"], NestedConfig()),
        ({}, ["betas.1=0.9"], NestedConfig(betas=(0.5, 0.9))),
        ({"parts": [{}, {}]}, ["parts.1.width=4"], NestedConfig(parts=[PartConfig(), PartConfig(4)])),
        ({"weights": {"a": 1}}, ["weights.b=2"], NestedConfig(weights={"a": 1.0, "b": 2.0})),
        (None, ["network.seed=3"], NestedConfig(seed=3)),
    ],
)
def test_overrides_reach_any_depth(written: Any, overrides: Sequence[str], meant: NestedConfig) -> None:
    before = json.dumps(written)
    assert network_of(written, *overrides) == meant
    assert json.dumps(written) == before, "the models of params.yaml may share it"


@pytest.mark.usefixtures("nested")
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=3", "--set seed is ambiguous: write network.seed or training.seed"),
        ("gamma.strat=3", "network.gamma: unknown key 'strat'; did you mean 'start'"),
        ("betas.2=3", r"network.betas: must be a list, not \{'2': 3\}"),
        ("gamma.end=3", "network.gamma: start is missing"),
        ("part.gamma.start=-1", "part.gamma.start: must be between 0 and 9"),
    ],
)
def test_a_wrong_override_of_a_nested_setting_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        network_of({}, override)
