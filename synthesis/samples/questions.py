"""Training queries that the language model writes: asked again, a bounded number of times, until one passes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from radar_llm.calls import Completion, GenerationError, Request
from synthesis.actions import LexicalQuestion, Prompt, TheoremQuestion, Unparsable, check_question
from synthesis.samples.settings import SampleSettings
from synthesis.uses import Use

_HEADING = re.compile(r"\\section\*?\{([^{}]*)\}")
_WORD_BREAK = re.compile(r"(?<=[a-z])(?=[A-Z])|[\W_]+")  # in "BinomialTheorem" and "chain-rule"
_MOST_NAME_WORDS = 8
_MATHS = re.compile(r"[$\\=]|\.$")  # a first line with one of these is a statement


class Writer(Protocol):
    """What is asked for queries: a :class:`radar_llm.Generator`, or what stands in front of one."""

    async def complete(self, request: Request, *, sample: int = 0, route: str = "") -> Completion:
        """Returns one sample."""
        ...


@dataclass(frozen=True)
class Written:
    """A query that passed.

    Attributes:
        text: The query.
        call: The key of the call that wrote it.
        overlap: The share of its content words that the theorem has too, 0 to 1.
        attempt: How many were written before it and did not pass.
    """

    text: str
    call: str
    overlap: float
    attempt: int


class Questions:
    """Asks the language model for queries.

    Args:
        generator: The client; what it was asked before is answered from its cache.
        settings: How often to ask, and what passes.
        seed: The run's.

    Attributes:
        calls: Answered calls and their tokens, those of the cache included.
    """

    def __init__(self, generator: Writer, settings: SampleSettings, seed: int):
        self._generator, self._settings, self._seed = generator, settings, seed
        self.calls = {"total": 0, "prompt_tokens": 0, "generated_tokens": 0}
        self._llmq, self._lexical = TheoremQuestion(), LexicalQuestion()

    async def for_use(self, use: Use, theorem: str) -> Written | str:
        """Writes an ``llmq`` query from the problem, the steps before the query node, and the retrieved theorem.

        Returns:
            The query, or why the last attempt did not pass.
        """
        names = theorem_names(use.docno, theorem, use.name)

        def objection(question: str) -> str | None:
            if any(check_question(question, theorem, name).leaks_name for name in names):
                return "names_theorem"
            return "overlap" if check_question(question, theorem).overlap > self._settings.max_overlap else None

        prompt = self._llmq.prompt(use.problem, use.steps, theorem)
        return await self._ask(prompt, self._llmq, theorem, 0, use.problem_id, objection)

    async def for_theorem(self, docno: str, theorem: str, turn: int) -> Written | str:
        """Writes the ``turn``-th ``lexical`` query of a theorem, from its text alone.

        Returns:
            The query, or why the last attempt did not pass.
        """
        first = turn * self._settings.attempts
        return await self._ask(self._lexical.prompt(theorem), self._lexical, theorem, first, docno, lambda _: None)

    async def _ask(
        self,
        prompt: Prompt,
        action: TheoremQuestion | LexicalQuestion,
        theorem: str,
        first: int,
        route: str,
        objection: Callable[[str], str | None],
    ) -> Written | str:
        reason, request = "unparsable", Request(prompt, action.sampling, self._seed)
        for attempt in range(self._settings.attempts):
            try:
                answer = await self._generator.complete(request, sample=first + attempt, route=route)
            except GenerationError:
                return "failed"
            question = action.parse(
                answer.text.encode("utf-8", "replace").decode()
            )  # no file holds half a surrogate pair
            self._count(answer)
            is_cut = answer.finish_reason == "length"
            found = "unparsable" if is_cut or isinstance(question, Unparsable) else objection(question)
            if found is None and isinstance(question, str):
                return Written(question, answer.call, round(check_question(question, theorem).overlap, 4), attempt)
            reason = found or reason
        return reason

    def _count(self, answer: Completion) -> None:
        self.calls["total"] += 1
        self.calls["prompt_tokens"] += answer.prompt_tokens
        self.calls["generated_tokens"] += answer.generated_tokens


def theorem_names(docno: str, text: str, candidate: str = "") -> tuple[str, ...]:
    """Returns what a theorem is called: by its docno, heading or short first line, and by whoever looked for it.

    A name of one word, such as "Limit", is what the theorem is about, which a question has to say; it is left out.
    """
    heading = _HEADING.search(text)
    first_line = text.strip().partition("\n")[0].strip()
    is_title = len(first_line.split()) <= _MOST_NAME_WORDS and not _MATHS.search(first_line)
    by_docno = _WORD_BREAK.sub(" ", docno)
    names = [by_docno, heading.group(1) if heading else "", first_line if is_title else "", candidate]
    return tuple(dict.fromkeys(name.strip() for name in names if len(name.split()) > 1))
