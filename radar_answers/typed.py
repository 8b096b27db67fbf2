"""Answers of known kinds, judged as TheoremQA's published evaluation judges them.

That evaluation takes a whole number for right if the answer rounds to it, any other number if the answer is within 4%
of it, a list if it has as many numbers and these agree in ascending order, an option by its letter. So does this one.
What differs: an answer is evaluated by math-verify in a process that can be killed, never by ``eval``; a list may stand
in any brackets; a letter or truth value counts only if the answer names no other one too; per cent are read both ways.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from radar_answers.forms import are_words, is_letter, letter, plain
from radar_answers.verifier import Verdict, Verifier

Kind = Literal["integer", "float", "list", "bool", "option", "text"]
KINDS: tuple[str, ...] = get_args(Kind)
TOLERANCE = 0.04
"""How far a number that isn't whole may be off, as a share of the right one."""

_LETTERS = "ABCDEFGH"
_TRUTHS = {"true": True, "yes": True, "false": False, "no": False}
_TRUTH = re.compile(r"\b(?:true|yes|false|no)\b")
_OPTION = re.compile(r"\(([a-h])\)", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_EQUALS = re.compile(r"=|≈|\\approx(?![a-z])|\\simeq(?![a-z])")
_NAME_OF_LIST = re.compile(r"^[^=\[({]*=(?=[\[({])")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True)
class Gold:
    """A right answer.

    Attributes:
        text: how it is written.
        kind: what it is; ``"text"`` is judged by :meth:`Verifier.check` alone.
        numbers: of an integer, a float or a list; whole ones are ints.
        is_nested: whether it is a list of lists; the order of its numbers counts then.
    """

    text: str
    kind: Kind
    numbers: tuple[int | float, ...] = ()
    is_nested: bool = False

    @classmethod
    def of(cls, value: Any, kind: str | None = None) -> Gold:
        """Reads a right answer.

        Args:
            value: text, number, truth value or list.
            kind: one of ``KINDS`` or of TheoremQA's names (``"list of integer"``); where None, what the value is.

        Raises:
            ValueError: The value isn't of the kind, or there is no such kind.
        """
        known = _known(value, kind)
        text = json.dumps(value) if isinstance(value, list) else str(value).strip()
        if not text:
            raise ValueError("the right answer is blank")
        if known == "bool" and _truth(text) is None:
            raise ValueError(f"{text!r} is no truth value: write True or False")
        if known == "option" and not is_letter(plain(text).upper()):
            known = "text"  # two options, or the words of one
        if known in ("integer", "float"):
            number = _plain_number(text)
            if number is None:
                raise ValueError(f"{text!r} is no number, and {kind} answers are")
            return cls(text, known, (_as_whole(number) if known == "integer" else float(number),))
        if known == "list":
            return _list(text)
        return cls(text, known)

    async def check(self, answer: str | None, verifier: Verifier) -> Verdict:
        """Judges an answer.

        Raises:
            OSError: If math-verify's process cannot be started.
        """
        if answer is None or not answer.strip():
            return Verdict(False, "missing")
        given = plain(answer)
        if given.casefold() == plain(self.text).casefold():
            return Verdict(True, "literal")
        if self.kind == "text":
            return await verifier.check(self.text, answer)
        if self.kind == "bool":
            return Verdict(_truth(given) == _truth(self.text), "choice")
        if self.kind == "option":
            return Verdict(_option(given) == _option(self.text), "choice")
        texts = _leaves(_NAME_OF_LIST.sub("", given)) if self.kind == "list" else [given]
        if len(texts) != len(self.numbers):
            return Verdict(False, "math")
        readings = [await _readings(text, verifier) for text in texts]
        if self.kind != "list":
            return Verdict(any(_agree(value, self.numbers[0]) for value in readings[0]), "math")
        if not all(readings):
            return Verdict(False, "math")
        values, right = [values[0] for values in readings], list(self.numbers)
        if not self.is_nested:
            values, right = sorted(values), sorted(right)
        return Verdict(all(map(_agree, values, right)), "math")


def _known(value: Any, kind: str | None) -> Kind:
    if kind is None:
        kinds: dict[type, Kind] = {bool: "bool", int: "integer", float: "float", list: "list", str: "text"}
        if type(value) not in kinds:
            raise ValueError(f"the right answer is {value!r}: a text, number, truth value or list is needed")
        return kinds[type(value)]
    name = {"boolean": "bool", "int": "integer"}.get(kind.strip().lower(), kind.strip().lower().split(" ")[0])
    if name not in KINDS:
        raise ValueError(f"there is no kind of answers {kind!r}: it is one of {', '.join(KINDS)}")
    return name  # type: ignore[return-value]


def _list(text: str) -> Gold:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, list) or not value:
        raise ValueError(f"{text!r} is no list: write it as JSON does, [1, 2.5]")
    is_nested = any(isinstance(part, list) for part in value)
    numbers = list(_flat(value))
    if not all(type(number) in (int, float) for number in numbers):
        return Gold(text, "text")
    return Gold(text, "list", tuple(numbers), is_nested)


def _flat(value: Any) -> list[Any]:
    return [leaf for part in value for leaf in _flat(part)] if isinstance(value, list) else [value]


def _truth(text: str) -> bool | None:
    """The truth value that a text names; None if it names none or both."""
    named = {_TRUTHS[word] for word in _TRUTH.findall(text.lower())}
    return named.pop() if len(named) == 1 else None


def _option(text: str) -> int | None:
    """The place of the only option that a plain text names in parentheses or, without any, begins with."""
    named = {name.upper() for name in _OPTION.findall(text)}
    if named:
        return _LETTERS.index(named.pop()) if len(named) == 1 else None
    return letter(text.upper(), _LETTERS)


def _plain_number(text: str) -> int | float | None:
    """The number that is written in digits; None if there is anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    digits = text.replace(",", "")
    return int(digits) if digits.lstrip("+-").isdigit() else float(digits)


def _as_whole(number: int | float) -> int | float:
    return int(number) if number == int(number) else number


async def _readings(text: str, verifier: Verifier) -> list[float]:
    """The numbers that a plain text may stand for: what follows its last equals sign; of per cent, two."""
    bare = _EQUALS.split(text)[-1].strip()
    is_percent = bare.endswith("%")
    bare = bare.removesuffix("%").removesuffix("\\").strip()
    value: float | None = _plain_number(bare)
    if value is None and bare and not are_words(bare):
        value = await verifier.value(bare)
    if value is None:
        return []
    return [value, value / 100] if is_percent else [value]


def _agree(value: float, right: int | float) -> bool:
    if isinstance(right, int):
        return round(value) == right
    allowed = TOLERANCE * abs(right)
    return right - allowed <= value <= right + allowed


def _leaves(text: str) -> list[str]:
    """The parts of a list, those of lists in it one after the other; a text without brackets and commas is one part."""
    inner = _unbracketed(text.replace(r"\{", "{").replace(r"\}", "}"))
    parts = _split(re.sub(r"\band\b", ",", inner))
    return [inner] if len(parts) < 2 else [leaf for part in parts for leaf in _leaves(part)]


def _unbracketed(text: str) -> str:
    """The text without brackets around all of it."""
    text = text.strip()
    while text and text[0] in _CLOSING and text[-1] == _CLOSING[text[0]] and _ends_at(text) == len(text) - 1:
        text = text[1:-1].strip()
    return text


def _ends_at(text: str) -> int:
    """Where the bracket closes that a text begins with."""
    depth = 0
    for place, character in enumerate(text):
        depth += (character in "([{") - (character in ")]}")
        if depth == 0:
            return place
    return -1


def _split(text: str) -> list[str]:
    """What stands between the commas and semicolons that no bracket encloses."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character in ",;" and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part for part in parts if part.strip()]
