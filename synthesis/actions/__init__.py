"""What the language model is asked for in synthesis: a prompt in, a parsed outcome out (paper §4, Appendix C).

Every action is a small object with three parts: ``sampling``, how the model is asked; ``prompt(…)``, the messages; and
``parse(text)``, what the answer says, or :class:`Unparsable`. Parsing never raises, whatever a model writes. Actions
know no network, no tree and no verifier; the prompts are the text files of ``synthesis/prompts``.
"""

from radar_llm.prompts import Prompt, Sampling
from synthesis.actions._prompts import Step, Unparsable, partial_solution
from synthesis.actions.candidates import Candidate, Candidates
from synthesis.actions.questions import LexicalQuestion, QuestionCheck, TheoremQuestion, check_question
from synthesis.actions.same_answer import SameAnswer
from synthesis.actions.solving import Completion, CompletionSampling, Reasoning, Thought
from synthesis.actions.theorems import Reflection, ReflectionReason, Relevance, Summary

__all__ = [
    "Candidate",
    "Candidates",
    "Completion",
    "CompletionSampling",
    "LexicalQuestion",
    "Prompt",
    "QuestionCheck",
    "Reasoning",
    "Reflection",
    "ReflectionReason",
    "Relevance",
    "SameAnswer",
    "Sampling",
    "Step",
    "Summary",
    "TheoremQuestion",
    "Thought",
    "Unparsable",
    "check_question",
    "partial_solution",
]
