"""Fields of dataclasses from what people write: YAML of files, words of a command line."""

from __future__ import annotations

import dataclasses
import functools
import re
import reprlib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from rirn.lazy import Later

yaml = Later("yaml")

MOST_VALUES = 100_000
"""Of one file; references within a file can make any number of a few lines."""
SAYS = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    list: "a list",
    dict: "settings by name",
    type(None): "null",
}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
"""YAML takes 1e-4 for text."""


class WrongValueError(ValueError):
    """What is wrong with a value, and ``unknown``, the name that no setting has."""

    def __init__(self, message: str, unknown: str | None = None):
        super().__init__(message)
        self.unknown = unknown


@functools.cache
def hints(cls: type) -> dict[str, Any]:
    """The type of each field."""
    types_of = typing.get_type_hints(cls)
    return {field.name: types_of[field.name] for field in dataclasses.fields(cls)}


def choices(hint: Any) -> tuple[Any, ...]:
    """The types that a value may have."""
    return get_args(hint) if get_origin(hint) in (typing.Union, types.UnionType) else (hint,)


def group(hint: Any) -> type | None:
    """The dataclass whose fields a value is made of, if it is."""
    return next((kind for kind in choices(hint) if dataclasses.is_dataclass(kind)), None)


def default(field: dataclasses.Field) -> Any:
    """Of a field, else ``dataclasses.MISSING``."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def load(text: str) -> Any:
    """What YAML says.

    Raises:
        WrongValueError: it says nothing that can be used.
    """
    try:
        value = yaml.safe_load(text)
    except RecursionError:
        raise WrongValueError("is nested too deep") from None
    except (yaml.YAMLError, ValueError, TypeError, OverflowError) as error:
        raise WrongValueError(f"is no YAML ({' '.join(str(error).split())})") from error
    left, count = [value], 0
    while left:
        item, count = left.pop(), count + 1
        if count > MOST_VALUES:
            raise WrongValueError(f"refers to itself, or has more than {MOST_VALUES} values")
        left += item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    return value


def read(text: str, hint: Any) -> Any:
    """What a word of a command line says: where text may stand, all that is no list or group is text."""
    kinds = choices(hint)
    if text == "null" and type(None) in kinds:
        return None
    if not _takes_text(hint):
        return load(text)
    bracketed = text[:1] in ("[", "{") and any(get_origin(kind) in (list, dict) for kind in kinds)
    try:
        return load(text) if bracketed else text
    except WrongValueError:  # the name of a folder may begin with a bracket
        return text


def _takes_text(hint: Any) -> bool:
    return any(
        kind in (str, Path)
        or get_origin(kind) is Literal
        or (get_origin(kind) is list and _takes_text(get_args(kind)[0]))
        for kind in choices(hint)
    )


def checked(value: Any, hint: Any, name: str) -> Any:
    """A value as its field takes it; groups stay mappings.

    Raises:
        WrongValueError: it is of another type, or a group has an unknown name.
    """
    cls = group(hint)
    if cls is not None and isinstance(value, dict):
        return checked_group(value, cls, f"{name}.")
    if value is None and cls is not None and type(None) not in choices(hint):
        raise WrongValueError(f"{name} is empty; give its settings, or leave it out")
    for kind in choices(hint):
        try:
            return _as(value, kind, name)
        except (TypeError, OverflowError):
            continue
    raise WrongValueError(f"{name} must be {says(hint)}; got {reprlib.repr(value)}")


def _as(value: Any, kind: Any, name: str) -> Any:
    """A value that is of a type; TypeError where it is not."""
    base, of = get_origin(kind) or kind, get_args(kind)
    if base is Any:
        is_number = isinstance(value, str) and "e" in value.lower() and NUMBER.fullmatch(value)
        return float(value) if is_number else value
    if (base is Literal and value in of) or (value is None and kind is type(None)):
        return value
    if base in (bool, int) and type(value) is base:
        return value
    if base is float and (
        type(value) in (int, float) or (isinstance(value, str) and NUMBER.fullmatch(value))
    ):
        return float(value)
    if base in (str, Path) and isinstance(value, str):
        return base(value)
    if base is list and value is not None and (isinstance(value, list) or not isinstance(value, dict)):
        return [checked(item, of[0], name) for item in (value if isinstance(value, list) else [value])]
    if base is tuple and isinstance(value, list) and len(value) == len(of):
        return tuple(checked(item, each, name) for item, each in zip(value, of, strict=True))
    if base is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: checked(item, of[1], f"{name}.{key}") for key, item in value.items()}
    raise TypeError


def checked_group(values: dict, cls: type, prefix: str = "") -> dict[str, Any]:
    """The same of all fields of a dataclass that are given."""
    known = hints(cls)
    for key in values:
        if key not in known:
            name = f"{prefix}{key!s:.100}"
            raise WrongValueError(f"there is no setting {name}", unknown=name)
    return {key: checked(value, known[key], prefix + key) for key, value in values.items()}


def says(hint: Any) -> str:
    """The type in words."""
    words = []
    for kind in choices(hint):
        base, of = get_origin(kind) or kind, get_args(kind)
        if base is Literal:
            words.append(f"one of {', '.join(of)}")
        elif base is tuple:
            words.append(f"a list of {len(of)} values, each {says(of[0])}")
        else:
            words.append("a group of settings" if dataclasses.is_dataclass(kind) else SAYS[base])
    return " or ".join(words)


def merge(old: Any, new: Any) -> Any:
    """Groups name by name, all else anew."""
    if isinstance(old, dict) and isinstance(new, dict):
        return old | {key: merge(old.get(key), value) for key, value in new.items()}
    return new


def missing(cls: type, values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Names of settings that have no default and are not given."""
    for field in dataclasses.fields(cls):
        inner = group(hints(cls)[field.name])
        required = default(field) is dataclasses.MISSING
        given = values.get(field.name, {} if required else None)
        if inner is not None and isinstance(given, dict):
            yield from missing(inner, given, f"{prefix}{field.name}.")
        elif required and field.name not in values:
            yield prefix + field.name


def build(cls: type, values: dict[str, Any], start: Any = None) -> Any:
    """The object; what is not given is as in ``start``, if there is one."""
    given = dict(values)
    for field in dataclasses.fields(cls):
        inner, value = group(hints(cls)[field.name]), values.get(field.name)
        if inner is not None and isinstance(value, dict):
            first = default(field)
            given[field.name] = build(inner, value, first if dataclasses.is_dataclass(first) else None)
    return cls(**given) if start is None else dataclasses.replace(start, **given)
