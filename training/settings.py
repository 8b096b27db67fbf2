"""Frozen dataclasses that check themselves: types, ranges and names, each error naming the dotted key it is about.

A class states everything in its annotations, ``rank: Annotated[int, Range(1)] = 16``. Its fields may be given as
they come from YAML: mappings become dataclasses, lists tuples, and ``1e-4``, which YAML 1.1 reads as text, a number.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

_SCIENTIFIC = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class RecipeError(ValueError):
    """A recipe that cannot be followed.

    Attributes:
        problem: What is wrong and what would be right.
        key: The full dotted path of the key it is about; empty for the whole recipe.
        origin: Where it was read: file and line, or the override.
    """

    def __init__(self, problem: str, key: str = "", origin: str = "") -> None:
        super().__init__(": ".join(part for part in (origin, key, problem) if part))
        self.problem, self.key, self.origin = problem, key, origin


@dataclass(frozen=True)
class Range:
    """What a number may be: finite, and within these bounds.

    Attributes:
        low: The least value.
        high: The greatest value.
        above: A value it must exceed.
        below: A value it must stay under.
    """

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf
    below: float = math.inf

    def check(self, value: float) -> None:
        """Raises RecipeError for a number outside."""
        if math.isfinite(value) and self.low <= value <= self.high and self.above < value < self.below:
            return
        bounds = {"at least": self.low, "at most": self.high, "above": self.above, "below": self.below}
        said = " and ".join(f"{word} {bound}" for word, bound in bounds.items() if math.isfinite(bound))
        raise RecipeError(f"must be {said or 'finite'}, not {value}")


@dataclass(frozen=True)
class NonEmpty:
    """What a text or list must be: not empty."""

    def check(self, value: str | tuple) -> None:
        """Raises RecipeError for an empty one."""
        if not value:
            raise RecipeError("must not be empty")


class Settings:
    """Base of the dataclasses: converts and checks every field when an object is made."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():
            with below(name):
                object.__setattr__(self, name, _converted(getattr(self, name), hint))


@contextmanager
def below(key: str | int) -> Iterator[None]:
    """Puts a key in front of the dotted path of a RecipeError raised inside."""
    try:
        yield
    except RecipeError as error:
        raise RecipeError(error.problem, f"{key}.{error.key}" if error.key else str(key), error.origin) from None


def build(cls: type, mapping: Mapping) -> Any:
    """Makes a dataclass from a mapping.

    Raises:
        RecipeError: If a key is unknown or missing, a value of the wrong type or out of range.
    """
    known = {field.name: field for field in fields(cls)}
    for key in mapping:
        if key not in known:
            raise RecipeError(_unknown(str(key), cls), str(key))
    for name, field in known.items():
        if name not in mapping and _is_required(field):
            raise RecipeError("is missing", name)
    return cls(**mapping)


def nearest(name: str, known: list[str]) -> str:
    """Returns ``"; did you mean x?"``, or the list of all where none is near."""
    close = get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known: {', '.join(known)}"


def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _is_required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _unknown(key: str, cls: type) -> str:
    siblings = [field.name for field in fields(cls)]
    if not get_close_matches(key, siblings):
        # A known key at the wrong level: rank instead of lora.rank.
        for parent, hint in _hints(cls).items():
            if any(key in _hints(child) for child in _dataclasses_in(hint)):
                return f"unknown key; did you mean {parent}.{key}?"
    return "unknown key" + nearest(key, siblings)


def _dataclasses_in(hint: Any) -> Iterator[type]:
    if is_dataclass(hint) and isinstance(hint, type):
        yield hint
    for inner in get_args(hint):
        yield from _dataclasses_in(inner)


def _converted(value: Any, hint: Any) -> Any:
    """Returns the value as its annotation has it, or raises RecipeError."""
    kind, inner = get_origin(hint), get_args(hint)
    if kind is Annotated:
        value = _converted(value, inner[0])
        for rule in inner[1:] if value is not None else ():
            rule.check(value)
        return value
    if kind in (Union, UnionType):
        (hint,) = (option for option in inner if option is not NoneType)
        return None if value is None else _converted(value, hint)
    if kind is Literal:
        if value not in inner:
            raise RecipeError(f"must be {' or '.join(inner)}, not {_shown(value)}")
        return value
    if kind is tuple:
        return _tuple(value, inner[0])
    if kind is dict:
        return _dict(value, *inner)
    if isinstance(hint, type) and is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, _mapping(value))
    return _scalar(value, hint)


def _tuple(value: Any, hint: Any) -> tuple:
    if not isinstance(value, (list, tuple)):
        raise RecipeError(f"must be a list, not {_shown(value)}")
    items = []
    for index, item in enumerate(value):
        with below(index):
            items.append(_converted(item, hint))
    return tuple(items)


def _dict(value: Any, key_hint: Any, hint: Any) -> dict:
    items = {}
    for key, item in _mapping(value).items():
        with below(key):
            items[_converted(key, key_hint)] = _converted(item, hint)
    return items


def _mapping(value: Any) -> Mapping:
    if not isinstance(value, Mapping):
        raise RecipeError(f"must be a mapping of keys to values, not {_shown(value)}")
    return value


def _scalar(value: Any, hint: type) -> Any:
    if hint is float and isinstance(value, str) and _SCIENTIFIC.fullmatch(value):
        value = float(value)
    if hint is float and type(value) is int:
        try:
            value = float(value)
        except OverflowError:
            raise RecipeError("is too large a number") from None
    if type(value) is not hint:  # not isinstance: true is no number
        quote = "; put it in quotes" if hint is str and isinstance(value, (bool, int, float)) else ""
        raise RecipeError(f"must be {_NAMES[hint]}, not {_shown(value)}{quote}")
    return value


def _shown(value: Any) -> str:
    shown = {None: "null", True: "true", False: "false"}.get(value) if isinstance(value, (bool, NoneType)) else None
    shown = shown or repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"
