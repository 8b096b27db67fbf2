"""A3: candidate theorems to look up, each of which becomes a query (paper §4: QG)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from radar_llm.prompts import Prompt, Sampling
from synthesis.actions._prompts import Step, Unparsable, situation, template

_FIELDS = ("name", "statement", "preconditions", "why", "subject")
_FIELD = re.compile(
    r"[\s>#*_•-]*(?:\d+[.)][\s*_]*)?(?:theorem\s)?"
    r"(name|statement|preconditions?|why(?:\ssatisfied)?|subject)[\s*_]*[:：][\s*]*",
    re.IGNORECASE,
)
_HEADING = re.compile(r"[\W_]*(?:candidate|theorem)(?:\s+theorem)?\s+\d+[\W_]*", re.IGNORECASE)
# What stands for "nothing here", or repeats a form to fill in.
_NOTHING = re.compile(r"[\W_]*|<[^<>]*>|\[[^\[\]]*\]|n/?a|none|unknown", re.IGNORECASE)


@dataclass(frozen=True)
class Candidate:
    """A theorem that might help, as the model remembers it.

    Attributes:
        name: What it is called.
        statement: What it says.
        preconditions: What must hold before it may be used; empty if the model left it out, like those below.
        why: Why that holds here.
        subject: Its branch of mathematics.
    """

    name: str
    statement: str
    preconditions: str
    why: str
    subject: str

    @property
    def query(self) -> str:
        """The text that is searched for."""
        return f"{self.name}. {self.statement}"


@dataclass(frozen=True)
class Candidates:
    """A3, query generation.

    Attributes:
        sampling: How the model is asked.
        limit: Candidates that are taken from one answer, the first ones; a model that runs wild names hundreds.
    """

    sampling: Sampling = Sampling(max_tokens=1024, stop=("\nProblem:",))
    limit: int = 5

    def prompt(self, problem: str, steps: Sequence[Step]) -> Prompt:
        """Asks for theorems that would bring the solution further after these steps."""
        return template("candidates").fill(**situation(problem, steps))

    def parse(self, text: str, *, is_cut: bool = False) -> tuple[Candidate, ...] | Unparsable:
        """Reads one candidate or more; each has a name and a statement, and no two ask the same query.

        Args:
            text: The answer.
            is_cut: Whether it was cut off, in the midst of its last candidate.
        """
        found: dict[str, Candidate] = {}
        for record in _records(text)[: -1 if is_cut else None]:
            candidate = Candidate(**{key: _value(record.get(key, "")) for key in _FIELDS})
            if candidate.name and candidate.statement:
                found.setdefault(candidate.query.casefold(), candidate)
        if not found:
            return Unparsable("no whole candidate has both a name and a statement", text)
        return tuple(found.values())[: self.limit]


def _records(text: str) -> list[dict[str, str]]:
    """Splits an answer at its field labels; a field that comes again, or a name, begins the next record."""
    records: list[dict[str, str]] = []
    key: str | None = None
    for line in text.split("\n"):
        if label := _FIELD.match(line):
            key = next(field for field in _FIELDS if label[1].lower().startswith(field.removesuffix("s")))
            if not records or key == "name" or key in records[-1]:
                records.append({})
            records[-1][key] = line[label.end() :]
        elif _HEADING.fullmatch(line):
            key = None
        elif key is not None:
            records[-1][key] += f"\n{line}"
    return records


def _value(text: str) -> str:
    value = " ".join(text.split())
    if value.count("**") % 2:  # the label and its value were set in bold as one
        value = value.removesuffix("**").rstrip()
    return "" if _NOTHING.fullmatch(value) else value
