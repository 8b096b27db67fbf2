"""A4: what is made of a retrieved theorem, its relevance (self-reflection) and its summary (paper §4: RT).

Each theorem is judged in a request of its own and by nothing but that request's answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from radar_llm.prompts import Prompt, Sampling
from synthesis.actions._prompts import Step, Unparsable, situation, template

TRUE, FALSE = "True", "False"

_LABEL = re.compile(r"[\s*_\"'`(\[]*(true|false)\b(?!\s*(?:/|\||,|or\b)\s*(?:true|false)\b)", re.IGNORECASE)
_SUMMARY = re.compile(r"[\s*_#]*(?:summary|reason|in plain words)[\s*_]*[:：][\s*_]*", re.IGNORECASE)
_LATEX = re.compile(r"\\\S|[\^_]\{")


@dataclass(frozen=True)
class Relevance:
    """The model's judgement of one theorem.

    Attributes:
        is_relevant: What it answered.
        probability: The probability of True among True and False; None where the endpoint gives no probabilities.
    """

    is_relevant: bool
    probability: float | None


@dataclass(frozen=True)
class Reflection:
    """Whether a theorem helps; answered by one of two words, so the answer can't be lost in a form.

    Where the endpoint doesn't constrain its answers, what counts is the first word.
    """

    sampling: Sampling = Sampling(temperature=0.0, max_tokens=16, choice=(TRUE, FALSE), logprobs=5)

    def prompt(self, problem: str, steps: Sequence[Step], theorem: str) -> Prompt:
        """Asks whether this theorem brings the solution further after these steps."""
        return template("reflection").fill(**situation(problem, steps), theorem=theorem)

    def parse(self, text: str, choice_probabilities: Mapping[str, float] | None = None) -> Relevance | Unparsable:
        """Reads the label.

        Args:
            text: The answer.
            choice_probabilities: The probabilities of the choices, where the endpoint gives them.
        """
        label = _LABEL.match(text)
        if not label:
            return Unparsable("the answer begins with neither True nor False", text)
        known = choice_probabilities or {}
        mass = known.get(TRUE, 0.0) + known.get(FALSE, 0.0)
        return Relevance(label[1].lower() == "true", known.get(TRUE, 0.0) / mass if mass > 0 else None)


@dataclass(frozen=True)
class ReflectionReason:
    """Why a theorem was judged as it was: one sentence, asked for after the label and only where it is wanted."""

    sampling: Sampling = Sampling(temperature=0.0, max_tokens=128)

    def prompt(self, problem: str, steps: Sequence[Step], theorem: str, is_relevant: bool) -> Prompt:
        """Asks for the reason of a judgement."""
        judgement = "relevant" if is_relevant else "not relevant"
        return template("reflection_reason").fill(**situation(problem, steps), theorem=theorem, judgement=judgement)

    def parse(self, text: str) -> str | Unparsable:
        """Reads the reason."""
        return _paragraph(text) or Unparsable("the reason is empty", text)


@dataclass(frozen=True)
class Summary:
    """A theorem in one plain sentence; it depends on the theorem alone, so one call serves a whole run."""

    sampling: Sampling = Sampling(temperature=0.0, max_tokens=256)

    def prompt(self, theorem: str) -> Prompt:
        """Asks for the sentence."""
        return template("summary").fill(theorem=theorem)

    def parse(self, text: str, *, is_cut: bool = False) -> str | Unparsable:
        """Reads the sentence; dollar signs around plain text are dropped, LaTeX is refused, and what was cut off."""
        if is_cut:
            return Unparsable("the summary is cut off", text)
        summary = _paragraph(text)
        if not summary:
            return Unparsable("the summary is empty", text)
        if _LATEX.search(summary):
            return Unparsable("the summary still holds LaTeX", text)
        return summary.replace("$", "")


def _paragraph(text: str) -> str:
    """Returns the first paragraph that is no preface ("Here is …:"), in one line and without a label."""
    label = _SUMMARY.match(text)
    paragraphs = re.split(r"\n\s*\n", text[label.end() :] if label else text)
    lines = (" ".join(part.split()) for part in paragraphs)
    return next((line for line in lines if re.search(r"\w", line) and not line.endswith(":")), "")
