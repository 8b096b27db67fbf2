r"""Final answers as solutions state them: what stands in ``\boxed{}`` or ``\fbox{}``, or after "the answer is"."""

from __future__ import annotations

import re

# A box with or without a brace, any other escaped character (so that \{ and \\ are passed over), or a brace.
_TOKEN = re.compile(r"\\(?P<box>boxed|fbox)(?![a-zA-Z])\s*(?P<brace>\{)?|\\.|[{}]", re.DOTALL)
_BARE = re.compile(r"(?![a-zA-Z]{2})(?:[^\s${}]|\{[^{}]*\})+")  # two letters begin a word of prose
_STATED = re.compile(r"\banswer\s*(?:is\s*:?|:)[\s*_]*([^\n]*)", re.IGNORECASE)


def stated_answer(text: str) -> str | None:
    """Returns the last box's contents or, without a box, what follows the last "answer is" in its line; or None."""
    boxed = boxed_answer(text)
    if boxed is not None or r"\boxed" in text:
        return boxed
    stated = [found[1].strip("*_ .") for found in _STATED.finditer(text)]
    return next((answer for answer in reversed(stated) if answer), None)


def boxed_answer(text: str) -> str | None:
    r"""Returns the contents of the last box of a text as they stand, or None.

    Braces must balance, escaped ones apart; of nested boxes the outer one counts, without a box that is all it holds.
    A box without braces, ``\boxed 7``, holds what follows up to a blank or a dollar sign. None stands for no box, for
    empty boxes alone, and for a last box that is never closed: what was cut off is no answer.
    """
    answer: str | None = None
    answer_at, last_box = -1, ""
    opened: list[re.Match[str]] = []
    for token in _TOKEN.finditer(text):
        if token["brace"] or token[0] == "{":
            opened.append(token)
        elif token[0] == "}" and opened:
            opening = opened.pop()
            contents = text[opening.end() : token.start()].strip()
            if opening["box"] and contents:
                answer = answer if contents == last_box else contents
                answer_at, last_box = opening.start(), text[opening.start() : token.end()]
        elif token["box"] and (bare := _BARE.match(text, token.end())) and (contents := bare[0].rstrip(".,;:!")):
            answer, answer_at = contents, token.start()
    unclosed_at = max((opening.start() for opening in opened if opening["box"]), default=-1)
    return answer if answer_at > unclosed_at else None
