"""Training queries that the model writes for a retrieved theorem (paper §4: the types llmq and lexical)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from radar_llm.prompts import Prompt, Sampling
from synthesis.actions._prompts import Step, Unparsable, situation, template

_LABELLED = re.compile(
    r"^[ \t*_#>]*(?:search\s)?(?:query|question)[ \t*_]*[:：][\s*_]*(.*)$", re.IGNORECASE | re.MULTILINE
)
_MOST_WORDS = 120  # of one sentence; a longer answer is a solution, or a model running in circles

_WORD = re.compile(r"[^\W_]+")
_COMMAND = re.compile(r"\\[a-zA-Z]+")
_WITHIN_SENTENCE = re.compile(r"(?<![.?!:\n])[\s–-][\"'(]?([^\W\d_]{3,})")
_STOP_WORDS = frozenset(
    "a an and any are as at be by can do does each for from given has have how i if in is it its let more my need not "
    "of on one or so such than that the their then there these they this to two was we what when where whether which "
    "who why will with would".split()
)


@dataclass(frozen=True)
class TheoremQuestion:
    """One sentence that asks for a theorem from where a solution stands (llmq)."""

    sampling: Sampling = Sampling(max_tokens=192)

    def prompt(self, problem: str, steps: Sequence[Step], theorem: str) -> Prompt:
        """Asks for the sentence.

        Args:
            problem: The problem.
            steps: Those before the query that found the theorem.
            theorem: The text of the theorem that was retrieved, not of the candidate that it was searched with.
        """
        return template("theorem_question").fill(**situation(problem, steps), theorem=theorem)

    def parse(self, text: str) -> str | Unparsable:
        """Reads the query; :func:`check_question` says whether it is one that trains reasoning."""
        return _question(text)


@dataclass(frozen=True)
class LexicalQuestion:
    """A question written from a theorem alone, in the theorem's terms (lexical)."""

    sampling: Sampling = Sampling(max_tokens=192)

    def prompt(self, theorem: str) -> Prompt:
        """Asks for the question."""
        return template("lexical_question").fill(theorem=theorem)

    def parse(self, text: str) -> str | Unparsable:
        """Reads the question."""
        return _question(text)


@dataclass(frozen=True)
class QuestionCheck:
    """How much of its theorem a question gives away.

    Attributes:
        overlap: The share of the question's content words that the theorem has too, 0 to 1; 1 if it has none.
        leaks_name: Whether the theorem's name, or a proper noun of it, stands in the question.
    """

    overlap: float
    leaks_name: bool


def check_question(question: str, theorem: str, name: str = "") -> QuestionCheck:
    """Measures a question against the theorem that it asks for.

    Content words are words of three letters or more, without stop words, plurals and LaTeX commands. A proper noun is
    a word that the question capitalises within a sentence, so "chain" of the chain rule is none.

    Args:
        question: What :class:`TheoremQuestion` came to.
        theorem: The theorem's text.
        name: What the theorem is called, where that is known.
    """
    words = _content_words(question)
    overlap = len(words & _content_words(theorem)) / len(words) if words else 1.0
    phrase, asked = " ".join(_words(name)), " ".join(_words(question))
    proper_nouns = {_singular(word.lower()) for word in _WITHIN_SENTENCE.findall(question) if word[0].isupper()}
    leaks = bool(phrase) and (f" {phrase} " in f" {asked} " or not proper_nouns.isdisjoint(_content_words(name)))
    return QuestionCheck(overlap, leaks)


def _question(text: str) -> str | Unparsable:
    """Returns the line labelled as the question, the last if there are several, or the one paragraph there is."""
    paragraphs = [part for part in re.split(r"\n\s*\n", text) if re.search(r"[^\W\d_]", part)]
    labelled = _LABELLED.findall(text)
    if not labelled and len(paragraphs) != 1:
        return Unparsable(f"no line is labelled as the question, of {len(paragraphs)} paragraphs", text)
    question = " ".join((labelled or paragraphs)[-1].split()).strip('"“”')
    if not re.search(r"[^\W\d_]", question):
        return Unparsable("the question is empty", text)
    if len(question.split()) > _MOST_WORDS:
        return Unparsable(f"the question is longer than {_MOST_WORDS} words", text)
    return question


def _words(text: str) -> list[str]:
    return [_singular(word) for word in _WORD.findall(_COMMAND.sub(" ", text).lower())]


def _content_words(text: str) -> set[str]:
    return {word for word in _words(text) if len(word) >= 3 and word not in _STOP_WORDS}


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
