"""Self-consistency: for a problem without a gold answer, the answer that most solutions agree on stands in for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from radar_answers.verifier import Judge, Verifier


@dataclass(frozen=True)
class Consensus:
    """What several solutions agree on.

    Attributes:
        answer: The answer of the largest group, as the first of the group wrote it.
        votes: The size of that group.
        total: All solutions, those without an answer included.
    """

    answer: str
    votes: int
    total: int

    @property
    def share(self) -> float:
        """The group's share of all solutions; a caller may want more than half before he trusts the answer."""
        return self.votes / self.total


async def consensus(
    verifier: Verifier,
    answers: Sequence[str | None],
    *,
    choices: Sequence[str] | None = None,
    judge: Judge | None = None,
) -> Consensus | None:
    """Groups answers that are equal and returns the largest group.

    An answer joins the first group whose first answer, taken for the gold answer, makes it right: mathematical
    equality as it is decided here need not be transitive. Of groups of one size, the one that began first counts.

    Args:
        verifier: Says what is equal.
        answers: The final answers of independent solutions of one problem; None where there is none.
        choices: See :meth:`Verifier.check`.
        judge: See there, too.

    Returns:
        None if there is no answer at all.
    """
    groups: dict[str, int] = {}
    homes: dict[str, str] = {}  # of each distinct answer, the first answer of its group
    for answer in answers:
        if answer is None or not answer.strip():
            continue
        if answer not in homes:
            homes[answer] = answer
            for first in groups:
                if (await verifier.check(first, answer, choices=choices, judge=judge)).is_right:
                    homes[answer] = first
                    break
        groups[homes[answer]] = groups.get(homes[answer], 0) + 1
    if not groups:
        return None
    best = max(groups, key=groups.__getitem__)
    return Consensus(best, groups[best], len(answers))
