"""Reads a dataclass from a YAML or JSON mapping, by its types.

Ranges are in the annotations (`Annotated[int, Range(1)]`), so that a setting is described in one place. A setting may
be a number, a string, true or false, one of several strings (Literal), an image size, a list, a mapping, another
dataclass, nothing (None), or a union of these with at most one dataclass. A range around such a type applies to all
numbers in it; in a Schedule, to `start` and `end`.
"""

import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING
from typing import Annotated, Any, Literal, TypeVar, Union

from genmodel.errors import ConfigError
from genmodel.output.counting import counted
from genmodel.settings.config import Range, default, plain
from genmodel.settings.schedule import Schedule
from genmodel.sizes import Size

T = TypeVar("T")
_HANDFUL = 12  # names that a message may list
_LONGEST = 100  # characters of a value that a message quotes


def build(cls: type[T], values: Any, where: str, whole: Any = None) -> T:
    """Make the dataclass `cls` from a mapping; what is left out gets its default, or its value in the default `whole`.

    `where` names the mapping's place ("params.yaml: models.vae.training") in the ConfigError raised for an unknown key,
    a wrong type or a value out of range.
    """
    values = mapping(values, where)
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    check_moved(values, cls, where)
    check_keys(values, [field.name for field in fields], where)
    read = {}
    for field in fields:
        usual = default(field, whole)
        # defaults pass through the same checks: 10_000 and 10_000.0 must not give two fingerprints
        value = values.get(field.name, plain(usual))
        if value is MISSING:
            raise ConfigError(f"{where}: {field.name} is missing")
        read[field.name] = read_value(hints[field.name], value, f"{where}.{field.name}", usual)
    try:
        return cls(**read)
    except ConfigError as error:  # values that are inconsistent
        raise ConfigError(f"{where}: {error}") from error


def mapping(values: Any, where: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must hold keys and values, not {shown(values)}")
    return dict(values)


def check_moved(values: Mapping[Any, Any], kind: Any, where: str) -> None:
    """ConfigError for a setting of earlier versions, with its new place: `kind` may have them in a mapping `moved`."""
    for key, place in getattr(kind, "moved", {}).items():
        if key in values:
            raise ConfigError(f"{where}: {key} is now {place}")


def check_keys(values: Mapping[Any, Any], known: Sequence[str], where: str) -> None:
    """ConfigError for an unknown key, suggesting a similar one, or listing all if they are few."""
    for key in values:
        if key not in known:
            listed = f"; known keys: {', '.join(known)}" if 0 < len(known) <= _HANDFUL else ""
            raise ConfigError(f"{where}: unknown key {shown(key)}{near(key, known) or listed}")


def near(word: Any, known: Sequence[str]) -> str:
    """The end of a message: "; did you mean 'beta'?", or nothing if no known word is similar."""
    found = difflib.get_close_matches(str(word), known, n=1)
    return f"; did you mean {found[0]!r}?" if found else ""


def shown(value: Any) -> str:
    """A value as messages quote it; works for any length, depth or size."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # a number of more than 4,300 digits
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def read_value(kind: Any, value: Any, where: str, usual: Any = None, bounds: Range | None = None) -> Any:
    """`value`, checked, as the type `kind`; `usual` is the setting's default."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        bounds = next((each for each in inner if isinstance(each, Range)), bounds)
        return read_value(inner[0], value, where, usual, bounds)
    if not _fits(kind, value):
        raise ConfigError(f"{where}: must be {_noun(kind)}, not {shown(value)}{_advice(kind, value)}")
    if origin in _UNIONS:
        assert sum(map(dataclasses.is_dataclass, inner)) <= 1, "a mapping would not tell which one it means"
        return read_value(next(each for each in inner if _fits(each, value)), value, where, usual, bounds)
    if origin is dict:
        return {
            _text(key, where): read_value(inner[1], each, f"{where}.{key}", None, bounds) for key, each in value.items()
        }
    if origin in (list, tuple):
        kinds = inner if origin is tuple and inner[-1] is not ... else inner[:1] * len(value)
        if len(kinds) != len(value):
            raise ConfigError(f"{where}: must be a list of {counted(len(kinds), 'item')}, not {shown(value)}")
        return origin(
            read_value(each, part, f"{where}.{place}", None, bounds)
            for place, (each, part) in enumerate(zip(kinds, value, strict=True))
        )
    if dataclasses.is_dataclass(kind):
        built = build(kind, value, where, usual)  # type: ignore[arg-type]
        for name in ("start", "end") if isinstance(built, Schedule) and bounds is not None else ():
            _check_range(getattr(built, name), bounds, f"{where}.{name}")
        return built
    if kind is Size:
        return _size(value, bounds, where)
    if kind is float:
        value = _finite(value, where)
    _check_range(value, bounds, where)
    return value


_UNIONS = (Union, types.UnionType)
_NOUNS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "null"}
_NOUNS[Size] = "a size such as 64 or 128x64 (width x height)"


def _fits(kind: Any, value: Any) -> bool:
    """Whether a value has the form of a type; its contents are not checked."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _fits(inner[0], value)
    if origin in _UNIONS:
        return any(_fits(each, value) for each in inner)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in inner)
    if origin in (list, tuple):
        return isinstance(value, list | tuple)
    if kind is Size:
        return type(value) in (int, str)
    if origin is dict or dataclasses.is_dataclass(kind):
        return isinstance(value, Mapping)
    return kind is Any or type(value) is kind or (kind is float and type(value) is int)


def _noun(kind: Any) -> str:
    """What a type asks for, in words."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return _noun(inner[0])
    if origin in _UNIONS:
        return " or ".join(map(_noun, inner))
    if origin is Literal:
        return f"one of {', '.join(map(str, inner))}"
    if origin in (list, tuple):
        return "a list"
    if dataclasses.is_dataclass(kind):
        return f"a mapping ({', '.join(field.name for field in dataclasses.fields(kind))})"
    return "a mapping" if origin is dict else _NOUNS[kind]


def _advice(kind: Any, value: Any) -> str:
    """What a string that does not fit may have meant."""
    if not isinstance(value, str):
        return ""
    kinds = [kind]
    for each in kinds:
        kinds += [] if typing.get_origin(each) is Literal else typing.get_args(each)
    if float in kinds and re.fullmatch(r"[-+]?[\d.]+[eE][-+]?\d+", value):
        return " (in YAML a power of ten needs a decimal point and a sign: 2.0e-4)"
    texts = [text for each in kinds if typing.get_origin(each) is Literal for text in typing.get_args(each)]
    return near(value, [text for text in texts if isinstance(text, str)])


def _text(key: Any, where: str) -> str:
    if not isinstance(key, str):
        raise ConfigError(f"{where}: the key {shown(key)} must be text: put it in quotes")
    return key


def _size(value: int | str, bounds: Range | None, where: str) -> Size:
    if bounds is not None and not all(int(side) in bounds for side in re.findall(r"\d{1,9}", str(value))):
        raise ConfigError(f"{where}: must be {bounds}, not {shown(value)}")
    try:
        return Size.of(value)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise ConfigError(f"{where}: must be a finite number, not {shown(value)}")
    return number


def _check_range(value: Any, bounds: Range | None, where: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if bounds is not None and is_number and value not in bounds:
        raise ConfigError(f"{where}: must be {bounds}, not {shown(value)}")
