"""One problem's uses of theorems to drafts of samples: a query of each type, its positive and its negatives."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from synthesis.actions import partial_solution
from synthesis.samples.negatives import Guard, Negative, Rankings
from synthesis.samples.questions import Questions, Written
from synthesis.samples.settings import SampleSettings
from synthesis.uses import Judgements, Use

if TYPE_CHECKING:
    from synthesis.retriever import Theorems


@dataclass(frozen=True)
class Query:
    """A training query before it has negatives.

    Attributes:
        id: Equal for samples that ask the same of several theorems.
        text: The query.
        calls: The calls of the language model that wrote it.
        details: What was measured of it.
    """

    id: str
    text: str
    calls: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """A sample that may yet turn out to be a duplicate."""

    type: str
    query: Query
    use: Use
    negatives: tuple[Negative, ...]
    also_relevant: tuple[str, ...]


@dataclass
class Drafted:
    """The drafts of one problem.

    Attributes:
        drafts: In the order of uses and types.
        dropped: How many queries of a type were not made, by type and reason.
        refused: How many theorems were refused as negatives, by reason.
    """

    drafts: list[Draft] = field(default_factory=list)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)


class Drafter:
    """Makes the drafts of one problem after the other, or of several at once.

    Args:
        questions: Writes queries with the language model.
        bm25: The theorem corpus ranked by BM25.
        dense: The same corpus ranked by an encoder.
        settings: What to make, and how.
    """

    def __init__(self, questions: Questions, bm25: Theorems, dense: Theorems, settings: SampleSettings):
        self._questions, self._theorems, self._settings = questions, bm25, settings
        self._rankers = {"bm25": bm25, "dense": dense}
        self._ranks = {"bm25": settings.mined_ranks, "dense": settings.mined_ranks}
        self._lexical_ranks = {"bm25": settings.mined_ranks, "dense": (1, settings.dense_top)}

    async def drafts(self, found: Iterable[Use], judged: Judgements, turns: Mapping[int, int]) -> Drafted:
        """Returns the drafts of one problem.

        Args:
            found: The problem's uses.
            judged: What was said of theorems for the problem.
            turns: By theorem node, which lexical query of its theorem is to be written; a node without a turn gets
                none.

        Raises:
            ValueError: For a theorem that the corpus lacks.
            ServerError: If the language model cannot be asked.
        """
        drafted = Drafted()
        guard, rankings = Guard(judged, self.text), Rankings(self._rankers)
        for use in found:
            for kind in self._settings.types:
                if kind == "lexical" and use.node not in turns:
                    continue
                query = await self._query(kind, use, turns, rankings)
                if isinstance(query, str):
                    drafted.dropped[kind, query] += 1
                    continue
                # A lexical query was written without the problem, so what the problem says does not bear on it.
                alone = kind == "lexical"
                rejected = () if alone else use.rejected
                others = () if alone else tuple(sorted(judged.accepted - {use.docno}))
                mined = await rankings.between(self._lexical_ranks if alone else self._ranks, query.text)
                negatives = guard.choose(use.docno, rejected, mined, self._settings.negatives)
                drafted.drafts.append(Draft(kind, query, use, negatives, others))
        drafted.refused = guard.refused
        return drafted

    def text(self, docno: str) -> str:
        """Returns a theorem's text.

        Raises:
            ValueError: If the corpus lacks it.
        """
        try:
            return self._theorems.text(docno)
        except KeyError as error:
            raise ValueError(
                f"the corpus lacks theorem {docno!r} of the records: give the corpus of the run"
            ) from error

    async def _query(self, kind: str, use: Use, turns: Mapping[int, int], rankings: Rankings) -> Query | str:
        """Returns a query, or why there is none."""
        if kind == "question":
            return Query(f"{use.problem_id}/question", use.problem)
        if kind == "cot":
            if not use.steps:
                return "no_steps"  # it would be the question again
            text = f"{use.problem}\n\n{partial_solution(use.steps)}"
            return Query(f"{use.problem_id}/cot/{use.query_node}", text, use.step_calls)
        if kind == "llmq":
            written = await self._questions.for_use(use, self.text(use.docno))
            return written if isinstance(written, str) else _query(f"{use.problem_id}/llmq/{use.node}", written)
        return await self._lexical(use, turns[use.node], rankings)

    async def _lexical(self, use: Use, turn: int, rankings: Rankings) -> Query | str:
        written = await self._questions.for_theorem(use.docno, self.text(use.docno), turn)
        if isinstance(written, str):
            return written
        depth = max(self._settings.round_trip, self._settings.mined_ranks[1])
        found = (await rankings.docnos("bm25", written.text, depth))[: self._settings.round_trip]
        if use.docno not in found:
            return "round_trip"
        return _query(f"{use.docno}/lexical/{turn}", written, bm25_rank=found.index(use.docno) + 1)


def _query(query_id: str, written: Written, **details: Any) -> Query:
    return Query(
        query_id, written.text, (written.call,), {"overlap": written.overlap, "attempt": written.attempt} | details
    )
