"""Answers of a language model: found in what it wrote, and judged against the right ones; it knows no task.

``boxed`` finds the final answer of a solution. The cheapest judge says first whether it is right: the letters, the
choices, mathematics, a language model. ``forms`` compares texts and choices, ``processes`` runs math-verify where it
can be killed, ``verifier`` asks one after the other, ``consensus`` stands in for a gold answer where there is none,
``typed`` judges numbers, lists, truth values and options as TheoremQA does. ``synthesis`` and ``pyterrier_radar``
stand on it.
"""

from radar_answers.boxed import boxed_answer, stated_answer
from radar_answers.consensus import Consensus, consensus
from radar_answers.typed import KINDS, Gold
from radar_answers.verifier import Judge, Verdict, Verifier

__all__ = [
    "KINDS",
    "Consensus",
    "Gold",
    "Judge",
    "Verdict",
    "Verifier",
    "boxed_answer",
    "consensus",
    "stated_answer",
]
