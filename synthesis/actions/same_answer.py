"""Whether two answers are the same: what the verifier may ask the language model when nothing cheaper could tell."""

from __future__ import annotations

import re
from dataclasses import dataclass

from radar_llm.prompts import Prompt, Sampling
from synthesis.actions._prompts import Unparsable, template

SAME, DIFFERENT = "Same", "Different"

_LABEL = re.compile(r"[\s*_\"'`(\[]*(same|different)\b(?!\s*(?:/|\||,|or\b)\s*(?:same|different)\b)", re.IGNORECASE)


@dataclass(frozen=True)
class SameAnswer:
    """Whether an answer says what the right answer says; answered by one of two words.

    Where the endpoint doesn't constrain its answers, what counts is the first word.
    """

    sampling: Sampling = Sampling(temperature=0.0, max_tokens=16, choice=(SAME, DIFFERENT))

    def prompt(self, problem: str, right: str, given: str) -> Prompt:
        """Asks whether the answer given to a problem is the right one."""
        return template("same_answer").fill(problem=problem, right=right, given=given)

    def parse(self, text: str) -> bool | Unparsable:
        """Reads the judgement."""
        label = _LABEL.match(text)
        if not label:
            return Unparsable("the answer begins with neither Same nor Different", text)
        return label[1].lower() == "same"
