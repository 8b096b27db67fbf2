"""MkDocs hook: tables that are read from the code whenever the site is built, so that they cannot drift.

A page asks for one by a comment on a line of its own: ``<!-- table: checkpoints -->``.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch_radar.checkpoints import CHECKPOINTS, Checkpoint
from torch_radar.instructions import BRIGHT_SPLITS
from torch_radar.paper import BRIGHT, GPT4, ORIGINAL, Row

_ASKED = re.compile(r"^<!-- table: ([a-z0-9-]+) -->$", re.MULTILINE)
_SHORT = ("Bio", "Earth", "Econ", "Psy", "Rob", "Stack", "Sus", "Leet", "Pony", "AoPS", "TheoQ", "TheoT")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Puts the tables where the page asks for them.

    Raises:
        KeyError: there is no such table.
    """
    return _ASKED.sub(lambda asked: TABLES[asked[1]](), markdown)


def checkpoints() -> str:
    """The released checkpoints: kind, base, text form, length, and the paper's BRIGHT figure."""
    rows = []
    for checkpoint in CHECKPOINTS.values():
        if checkpoint.name.startswith("Raderspace/"):
            kind = checkpoint.kind + (", LoRA" if checkpoint.is_adapter else "")
            short = checkpoint.name.removeprefix("Raderspace/")
            base = (checkpoint.base or "").rpartition("/")[2]
            tokens = f"{checkpoint.max_tokens:,}"
            name = short.replace("_", "_<wbr>")  # lines break there and nowhere else
            rows.append((f"<code>{name}</code>", kind, base, checkpoint.template.name, tokens, _published(checkpoint)))
    return table(("Raderspace/…", "Kind", "Base", "Text form", "Tokens", "BRIGHT (paper)"), rows)


def packaged() -> str:
    """The checkpoints that come with the package."""
    rows = [
        (f"`{c.name}`", f"`{c.template.name}`", c.pooling.replace("_", " "), str(c.max_tokens), c.note)
        for c in CHECKPOINTS.values()
        if not c.name.startswith("Raderspace/")
    ]
    return table(("Name", "Text form", "Pooling", "Tokens", "What it is"), rows)


def notes() -> str:
    """What must be known of each released checkpoint."""
    released = [c for c in CHECKPOINTS.values() if c.name.startswith("Raderspace/")]
    return "\n".join(f"- `{c.name.removeprefix('Raderspace/')}`: {c.note}." for c in released)


def paper_original() -> str:
    """The paper's rows on BRIGHT's own queries."""
    return _paper(ORIGINAL)


def paper_gpt4() -> str:
    """The paper's rows on GPT-4's reasoning queries."""
    return _paper(GPT4)


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, numbers: bool = False) -> str:
    """Lays rows out in Markdown; with ``numbers`` all columns but the first are right-aligned."""
    head = tuple(head)
    rule = ["---", *["--:" if numbers else "---"] * (len(head) - 1)]
    lines = [head, rule, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _published(checkpoint: Checkpoint) -> str:
    rows = [row for row in BRIGHT if row.checkpoint == checkpoint.name and row.queries == ORIGINAL]
    return str(rows[0].average) if rows else ""


def _paper(queries: str) -> str:
    head = ("System", *_SHORT, "Mean")
    rows = [_values(row) for row in BRIGHT if row.queries == queries]
    return '<div class="wide" markdown>\n\n' + table(head, rows, numbers=True) + "\n\n</div>"


def _values(row: Row) -> list[str]:
    values = [row.values.get(split) for split in BRIGHT_SPLITS]
    return [row.name, *("" if value is None else str(value) for value in (*values, row.average))]


TABLES: dict[str, Callable[[], str]] = {
    "checkpoints": checkpoints,
    "packaged": packaged,
    "notes": notes,
    "paper-original": paper_original,
    "paper-gpt4": paper_gpt4,
}
