r"""Answers as texts: what may differ in writing without a difference in meaning.

Nothing here touches a digit, so ``100`` never becomes ``1``. What is left out is what typesetting adds: dollar signs,
spaces, ``\left`` and ``\right``, ``\text{}`` around words, the size of a fraction, a full stop at the end.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from string import ascii_uppercase

_DELIMITERS = re.compile(r"^(?:\$\$?|\\\(|\\\[)\s*(.*?)\s*(?:\$\$?|\\\)|\\\])$", re.DOTALL)
_SPACING = re.compile(r"\\[,;:! ]|\\q?quad(?![a-zA-Z])|~")
_SIZES = re.compile(r"\\(?:left|right|[bB]igg?[lr]?|displaystyle)(?![a-zA-Z])\.?")
_UNWRAPPED = re.compile(r"\\(?:text|textbf|textit|textrm|mathrm|mathbf|mbox|operatorname)\s*\{([^{}]*)\}")
_AROUND_SYMBOLS = re.compile(r"\s*([^\w\s])\s*")
_WORDS = re.compile(r"(?=.*[^\W\d_]{3})(?:[^\W\d_]|[\s'’-])+")
_LETTER = re.compile(r"\(([A-Za-z])\)|([A-Z])[.:)]|([A-Z])$")

DEFAULT_LETTERS = "ABCDE"


def plain(answer: str) -> str:
    """Returns an answer without what typesetting adds; equal results mean equal answers."""
    text = unicodedata.normalize("NFC", answer).replace("−", "-").strip()
    text = text.removesuffix(".").rstrip()
    if (inner := _DELIMITERS.match(text)) and "$" not in inner[1]:
        text = inner[1]
    text = _UNWRAPPED.sub(r"\1", text)
    text = _SIZES.sub("", _SPACING.sub(" ", text))
    text = re.sub(r"\\[dt]frac(?![a-zA-Z])", r"\\frac", text)
    text = _AROUND_SYMBOLS.sub(r"\1", " ".join(text.split()))
    return text.removesuffix(".")


def are_words(*texts: str) -> bool:
    """Says whether all are words and not formulas: letters alone, three of them in a row.

    Mathematics would take words for products of their letters, and "north" for equal to "thorn".
    """
    return all(_WORDS.fullmatch(text) for text in texts)


def letter(text: str, letters: str = DEFAULT_LETTERS) -> int | None:
    """Returns the place of the choice that a plain text begins with the letter of: ``B``, ``(b)``, ``B. 12``."""
    found = _LETTER.match(text)
    if not found:
        return None
    place = letters.find((found[1] or found[2] or found[3]).upper())
    return place if place >= 0 else None


def is_letter(text: str) -> bool:
    """Says whether a plain text is a choice's letter and nothing else; one that goes on may be a formula."""
    return _LETTER.fullmatch(text) is not None


def chosen(text: str, choices: Sequence[str]) -> int | None:
    """Returns the place of the choice that a plain text names, by its letter or, failing that, by its words."""
    place = letter(text, ascii_uppercase[: len(choices)])
    if place is not None:
        return place
    return next((place for place, choice in enumerate(choices) if plain(choice) == text), None)
