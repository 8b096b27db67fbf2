"""A1 and A2: the next step of a solution, and all that remain (paper §4: OST, CRS)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from radar_answers import boxed_answer
from radar_llm.prompts import Prompt, Sampling
from synthesis.actions._prompts import Step, Unparsable, situation, template
from synthesis.tree import Kind

# "Step 2: …" or a line of its own; "Step 2 shows that …" is a sentence.
_LABEL = re.compile(r"[\s*#>]*step\s+\d+[ \t*]*(?:[:.)]|(?=\n)|\Z)[\s*]*", re.IGNORECASE)
_BOX = re.compile(r"\\(boxed|fbox)(?![a-zA-Z])")


@dataclass(frozen=True)
class Reasoning:
    """A part of a solution.

    Attributes:
        text: The step or steps, without the number of the first.
        answer: The final answer they reach, as it stands in its box; None if they reach none.
    """

    text: str
    answer: str | None


@dataclass(frozen=True)
class Thought:
    """A1, one-step thought: terminal if it states the answer."""

    sampling: Sampling = Sampling(max_tokens=512, stop=("\nStep ", "\nProblem:"))

    def prompt(self, problem: str, steps: Sequence[Step]) -> Prompt:
        """Asks for the step that follows these."""
        return template("thought").fill(**situation(problem, steps), number=_next_number(steps))

    def parse(self, text: str) -> Reasoning | Unparsable:
        """Reads one step; what a model wrote of later steps is cut off."""
        first, *lines = _unlabelled(text).split("\n")
        later = next((n for n, line in enumerate(lines) if _LABEL.match(line)), len(lines))
        step = "\n".join([first, *lines[:later]]).strip()
        if not step:
            return Unparsable("the step is empty", text)
        answer = boxed_answer(step)
        if answer is None and _BOX.search(step):
            return Unparsable("the box of the answer is empty or never closed", text)
        return Reasoning(step, answer)


@dataclass(frozen=True)
class CompletionSampling(Sampling):
    """How a completion is asked for.

    Attributes:
        samples: The most that are drawn; the first right one is the last.
    """

    samples: int = 4
    max_tokens: int = 1024
    stop: tuple[str, ...] = ("\nProblem:",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1:
            raise ValueError(f"samples is {self.samples}: it must be 1 or more")


@dataclass(frozen=True)
class Completion:
    """A2, complete remaining steps: always terminal, and of several samples the best is kept."""

    sampling: CompletionSampling = CompletionSampling()

    def prompt(self, problem: str, steps: Sequence[Step]) -> Prompt:
        """Asks for all steps that follow these."""
        return template("completion").fill(**situation(problem, steps), number=_next_number(steps))

    def parse(self, text: str) -> Reasoning | Unparsable:
        """Reads the rest of a solution; without an answer it is none."""
        answer = boxed_answer(text)
        if answer is None:
            return Unparsable("no final answer stands in a box", text)
        return Reasoning(_unlabelled(text), answer)


def _next_number(steps: Sequence[Step]) -> str:
    return str(1 + sum(step.kind is Kind.THOUGHT for step in steps))


def _unlabelled(text: str) -> str:
    text = text.strip()
    label = _LABEL.match(text)
    return text[label.end() :] if label else text
