"""The judges of an answer, one after the other, until one decides."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from radar_answers.forms import are_words, chosen, is_letter, letter, plain
from radar_answers.processes import MathProcesses

How = Literal["missing", "literal", "choice", "math", "undecided", "judge", "unparsable"]
Judge = Callable[[str, str], Awaitable[bool | None]]

_REMEMBERED = 20_000


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right.

    Attributes:
        is_right: The verdict.
        how: Who gave it: ``"literal"``, equal texts or different words; ``"choice"``, the same or another choice;
            ``"math"``, math-verify; ``"judge"``, the language model. ``"missing"``, ``"undecided"`` and
            ``"unparsable"`` are wrong answers: there is none, mathematics came to no end before the deadline, or the
            language model gave no judgement that could be read.
    """

    is_right: bool
    how: How


class Verifier:
    r"""Compares answers with gold answers (the reward of paper §4); an asynchronous context manager.

    What counts as equal, beyond equal texts, is what math-verify says of ``(gold, answer)``. Notably ``50`` equals
    ``50\%``, in both directions: gold answers leave the sign out as often as not, and it says no more than the
    question did. For the same reason ``10^\circ`` equals ``10`` and ``5`` cm equals 5. ``0.333`` isn't ``1/3``, and a
    list in any order is the same list.

    Args:
        workers: Processes for math-verify.
        deadline: Seconds it may take for one answer.

    Raises:
        ValueError: For a number out of range.
    """

    def __init__(self, workers: int = 1, deadline: float = 5.0):
        if workers < 1 or not deadline > 0:
            raise ValueError(f"workers is {workers}, deadline {deadline}: both must be more than 0")
        self._processes = MathProcesses(workers, deadline)
        self._known: dict[tuple[str, str], bool | None] = {}

    async def __aenter__(self) -> Verifier:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the processes."""
        await self._processes.close()

    async def check(
        self, gold: str, answer: str | None, *, choices: Sequence[str] | None = None, judge: Judge | None = None
    ) -> Verdict:
        """Judges an answer.

        Args:
            gold: The right answer: of a multiple-choice problem, its letter or its text.
            answer: The answer; None if a solution states none.
            choices: The texts of the choices, for A, B, …; a text that is a letter itself is taken for that letter.
                Without them letters are compared where one of the two answers is nothing but a letter.
            judge: Asked with gold answer and answer after all others said no, or came to no end: a language model, as a
                rule. None for an answer that cannot be read, which counts as no.

        Raises:
            OSError: If math-verify's process cannot be started.
        """
        if answer is None or not answer.strip():
            return Verdict(False, "missing")
        right, given = plain(gold), plain(answer)
        if choices:
            right_place, given_place = chosen(right, choices), chosen(given, choices)
            if right_place is not None and given_place is not None:
                return Verdict(right_place == given_place, "choice")
            gold = gold if right_place is None else choices[right_place]
            answer = answer if given_place is None else choices[given_place]
            right, given = plain(gold), plain(answer)
        if right == given:
            return Verdict(True, "literal")
        if not choices and (is_letter(right) or is_letter(given)):
            right_place, given_place = letter(right), letter(given)
            if right_place is not None and given_place is not None:
                return Verdict(right_place == given_place, "choice")
        verdict = Verdict(right.casefold() == given.casefold(), "literal")
        if not are_words(right, given):
            equal = await self._equal(right, given)
            verdict = Verdict(bool(equal), "undecided" if equal is None else "math")
        if verdict.is_right or judge is None:
            return verdict
        is_same = await judge(gold, answer)
        return Verdict(False, "unparsable") if is_same is None else Verdict(is_same, "judge")

    async def value(self, answer: str) -> float | None:
        """Returns the number that an answer is; None if it is none, or computing it took too long.

        Raises:
            OSError: If math-verify's process cannot be started.
        """
        return await self._processes.value(plain(answer))

    async def _equal(self, gold: str, answer: str) -> bool | None:
        """Asks math-verify, once for the same two answers: samples of a problem repeat each other."""
        pair = gold, answer
        if pair not in self._known:
            equal = await self._processes.equal(gold, answer)
            if len(self._known) >= _REMEMBERED:
                del self._known[next(iter(self._known))]  # the oldest
            self._known[pair] = equal
        return self._known[pair]
