"""Markdown tables of texts that may hold anything."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$~])")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns a table; texts are escaped, figures stand to the right."""
    rows = list(rows)
    align = [
        "---:" if rows and all(re.match(r"[\d–]", row[column]) for row in rows) else "---"
        for column in range(len(heads))
    ]
    lines = [list(map(escape, heads)), align, *(list(map(escape, row)) for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escape(text: str) -> str:
    """Returns a text on one line in which nothing is Markdown or HTML."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split())).replace("&", "&amp;")


def count(number: int) -> str:
    """Returns a whole number with commas between thousands."""
    return f"{number:,}"


def share(part: int, whole: int) -> str:
    """Returns a part in per cent."""
    return f"{100 * part / whole:.1f}%" if whole else "–"
