"""Dataclasses that are written as readable JSON and read back equal, checked against their annotations."""

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, Self

from genmodel.errors import EvaluationError
from genmodel.sizes import Size

_WORDS = {"nan", "inf", "-inf"}  # JSON has no such numbers


class AsJson:
    """For frozen dataclasses of strings, numbers, image sizes, lists, tuples, mappings and other such dataclasses."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON; an optional field is left out if it is None, and numbers that are not finite are strings."""
        told: dict[str, Any] = {}
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if value is not None or field.default is not None:
                told[field.name] = _plain(value)
        return told

    @classmethod
    def from_dict(cls, told: Any, where: str) -> Self:
        """Undo `as_dict`. `where` names its place in the one-line EvaluationError for what does not fit."""
        if not isinstance(told, Mapping):
            raise EvaluationError(f"{where} must hold keys and values, not {told!r:.80}")
        hints = typing.get_type_hints(cls)
        fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
        for key in told:
            if key not in fields:
                raise EvaluationError(f"{where}: unknown key {key!r}")
        for name, field in fields.items():
            if name not in told and field.default is dataclasses.MISSING:
                raise EvaluationError(f"{where}: {name} is missing")
        return cls(**{key: _read(hints[key], value, f"{where}: {key}") for key, value in told.items()})


def _plain(value: Any) -> Any:
    if isinstance(value, AsJson):
        return value.as_dict()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Size):
        return value.plain()
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value


def _read(kind: Any, value: Any, where: str) -> Any:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):  # X | None
        return None if value is None else _read(next(part for part in parts if part is not type(None)), value, where)
    if origin is Literal and isinstance(value, str) and value in parts:
        return value
    if origin is list and isinstance(value, list):
        return [_read(parts[0], each, where) for each in value]
    if origin is tuple and isinstance(value, list | tuple) and len(value) == len(parts):
        return tuple(_read(part, each, where) for part, each in zip(parts, value, strict=True))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _read(parts[1], each, f"{where}.{key}") for key, each in value.items()}
    if isinstance(kind, type) and issubclass(kind, AsJson):
        return kind.from_dict(value, where)
    if kind is float and (type(value) in (int, float) or (isinstance(value, str) and value in _WORDS)):
        return float(value)
    if kind is Size and type(value) in (int, str):
        try:
            return Size.of(value)
        except ValueError as error:
            raise EvaluationError(f"{where}: {error}") from error
    if kind is Any or (origin is None and type(value) is kind):
        return value
    raise EvaluationError(f"{where} must be {_NOUNS.get(origin or kind, kind)}, not {value!r:.80}")


_NOUNS = {
    int: "a whole number", float: "a number", str: "text", bool: "true or false", list: "a list", tuple: "two numbers",
    dict: "keys and values", Size: "a size such as 64 or 128x64",
}  # fmt: skip
