"""What every action has around it: its prompt file, and how a partial solution reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from radar_llm.prompts import Template
from synthesis.tree import Kind


@dataclass(frozen=True)
class Step:
    """A node of a path as prompts see it; of a theorem, the text is its summary."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Unparsable:
    """An answer of the model that could not be read; counted and shown, never taken for something else."""

    reason: str
    text: str


@cache
def template(name: str) -> Template:
    """Returns the template of the file ``prompts/{name}.txt``."""
    path = resources.files("synthesis") / "prompts" / f"{name}.txt"
    return Template.of(name, path.read_text(encoding="utf-8"))


def partial_solution(steps: Sequence[Step]) -> str:
    """Returns the steps of a path as a text: thoughts and completions numbered, theorems between them.

    Queries and the root are no part of a solution and are left out; of nothing, the text is empty.
    """
    lines, number = [], 0
    for step in steps:
        if step.kind in (Kind.THOUGHT, Kind.COMPLETION):
            number += 1
            lines.append(f"Step {number}: {step.text}")
        elif step.kind is Kind.THEOREM:
            lines.append(f"Known theorem: {step.text}")
    return "\n".join(lines)


def situation(problem: str, steps: Sequence[Step]) -> dict[str, str]:
    """Returns what most prompts show: the problem, and the steps taken so far."""
    return {"problem": problem, "steps": partial_solution(steps) or "(none yet)"}
